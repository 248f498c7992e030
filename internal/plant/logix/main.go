// Logix is a third party's EtherNet/IP server and client (gologix) for tests, as a process of its own: the
// server does not end otherwise.
//
//	logix serve
//	logix client ADDRESS STEP...
//
// serve has a few tags at backplane slot 0 and writes a line for each write that reaches it. client takes
// the steps one after the other, whatever becomes of each, and writes a line about it: "read Line3.Speed:
// 12", or "read Recipe: error: …". Steps are connect, disconnect, read TAG, write TAG=VALUE, multi
// TAG,TAG…, attribute CLASS/INSTANCE/ATTRIBUTE, service CODE/PATH (both hexadecimal), list.
package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/danomagnum/gologix"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = serve()
	case len(os.Args) > 3 && os.Args[1] == "client":
		client := newClient(os.Args[2])
		for _, step := range os.Args[3:] {
			client.take(step)
		}
	default:
		err = fmt.Errorf("usage: logix serve, or logix client ADDRESS STEP")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// provider tells of each write.
type provider struct{ gologix.MapTagProvider }

func (p *provider) TagWrite(tag string, value any) error {
	fmt.Printf("wrote %s %v\n", strings.ToLower(tag), value)
	return p.MapTagProvider.TagWrite(tag, value)
}

func serve() error {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	tags := &provider{}
	for name, value := range map[string]any{
		"Line3.Speed": int32(12), "Line3.Setpoint": int32(1), "Recipe": int32(3), "Line3.Array": []int32{1, 2, 3, 4, 5, 6, 7, 8},
		"Speed": int32(12), "Setpoint": int32(1),
	} {
		if err := tags.MapTagProvider.TagWrite(name, value); err != nil {
			return err
		}
	}
	path, err := gologix.ParsePath("1,0")
	if err != nil {
		return err
	}
	router := gologix.PathRouter{}
	router.Handle(path.Bytes(), tags)
	router.Handle(nil, tags)
	server := gologix.NewServer(&router)
	server.Logger = slog.Default()
	fmt.Println("serving")
	return server.Serve()
}

type client struct{ *gologix.Client }

func newClient(address string) *client {
	c := gologix.NewClient(address)
	c.SocketTimeout = 3 * time.Second
	c.KeepAliveAutoStart = false
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return &client{c}
}

// take takes a step and writes what came of it.
func (c *client) take(step string) {
	name, argument, _ := strings.Cut(step, " ")
	got, err := c.do(name, argument)
	switch {
	case err != nil:
		got = "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
	case got == "":
		got = "done"
	}
	fmt.Printf("%s: %s\n", step, got)
}

func (c *client) do(name, argument string) (string, error) {
	switch name {
	case "connect":
		return "", c.Connect()
	case "disconnect":
		return "", c.Disconnect()
	case "read":
		var v int32
		err := c.Read(argument, &v)
		return strconv.Itoa(int(v)), err
	case "write":
		tag, value, _ := strings.Cut(argument, "=")
		v, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return "", err
		}
		return "", c.Write(tag, int32(v))
	case "multi":
		return c.multi(strings.Split(argument, ","))
	case "attribute":
		var class, instance, attribute int
		if _, err := fmt.Sscanf(argument, "%d/%d/%d", &class, &instance, &attribute); err != nil {
			return "", err
		}
		item, err := c.GetAttrSingle(gologix.CIPClass(class), gologix.CIPInstance(instance), gologix.CIPAttribute(attribute))
		if err != nil {
			return "", err
		}
		return hex.EncodeToString(item.Data), nil
	case "service":
		return c.service(argument)
	case "list":
		found, err := c.ListIdentity()
		return fmt.Sprint(found != nil), err
	}
	return "", fmt.Errorf("there is no such step")
}

func (c *client) multi(tags []string) (string, error) {
	types, elements := make([]any, len(tags)), make([]int, len(tags))
	for i := range tags {
		types[i], elements[i] = int32(0), 1
	}
	values, err := c.ReadList(tags, types, elements)
	return fmt.Sprint(values...), err
}

func (c *client) service(argument string) (string, error) {
	code, path, _ := strings.Cut(argument, "/")
	service, err := strconv.ParseUint(code, 16, 8)
	if err != nil {
		return "", err
	}
	raw, err := hex.DecodeString(path)
	if err != nil {
		return "", err
	}
	item, err := c.GenericCIPMessage(gologix.CIPService(service), raw, nil)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(item.Data), nil
}
