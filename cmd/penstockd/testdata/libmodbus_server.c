/*
 * A Modbus/TCP server with libmodbus: one client at a time, 1024 coils and registers. It says which
 * writes it executes. Usage: libmodbus_server ADDRESS PORT
 */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int writes(int function)
{
	return function == 5 || function == 6 || function == 15 || function == 16 || function == 22 || function == 23;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	modbus_t *ctx = modbus_new_tcp(argv[1], atoi(argv[2]));
	modbus_mapping_t *map = modbus_mapping_new(1024, 1024, 1024, 1024);
	int listener = ctx ? modbus_tcp_listen(ctx, 4) : -1;
	if (!map || listener < 0) {
		fprintf(stderr, "listen on %s port %s: %s\n", argv[1], argv[2], modbus_strerror(errno));
		return 1;
	}
	puts("listening");
	while (modbus_tcp_accept(ctx, &listener) >= 0) {
		unsigned char query[MODBUS_TCP_MAX_ADU_LENGTH];
		int n;
		while ((n = modbus_receive(ctx, query)) >= 0) {
			if (n > 9 && writes(query[7]))
				printf("executes function %d at %d\n", query[7], query[8] << 8 | query[9]);
			if (n > 0)
				modbus_reply(ctx, query, n, map);
		}
		modbus_close(ctx);
	}
	return 0;
}
