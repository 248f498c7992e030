package policy

import "strings"

func badRows() []badRow {
	return []badRow{
		{"unknown key", []string{"site: test", "sites: test"}, []string{
			"2:1: the policy has no key \"sites\": did you mean \"site\"?",
		}},
		{"site left out", []string{"site: test\n", ""}, []string{}},
		{"trailing comma", []string{"from: [hmi]", "from: [hmi, ]"}, []string{}},
		{"target left out", []string{"room, sl_target: 2", "room"}, []string{}},
		{"unknown key without a neighbour", []string{"site: test", "site: test\ncolour: red"}, []string{
			"3:1: the policy has no key \"colour\"; its keys are api_version, site, mode, appliances, defaults, zones, identities, conduits",
		}},
		{"wrong api version", []string{"penstock/v1", "penstock/v2"}, []string{
			"1:14: api_version \"penstock/v2\" is not known here: write penstock/v1",
		}},
		{"missing required keys", []string{"api_version: penstock/v1\nsite: test\nmode: enforce\n", ""}, []string{
			"1:1: the policy has no \"api_version\": add it",
			"1:1: the policy has no \"mode\": add it",
		}},
		{"key twice", []string{"site: test", "site: test\nsite: again"}, []string{
			"3:1: key \"site\" is given twice, first on line 2: remove one",
		}},
		{"key twice in a flow mapping", []string{"{name: room, sl_target: 2}", "{name: room, sl_target: 2, name: other}"}, []string{
			"10:32: key \"name\" is given twice, first on line 10: remove one",
		}},
		{"key without a value", []string{"site: test", "site:"}, []string{
			"2:1: key \"site\" has no value: write one, or remove the key",
		}},
		{"value of the wrong kind", []string{"site: test", "site: [test]"}, []string{
			"2:7: site must be a single value, not a list",
		}},
		{"list of the wrong kind", []string{"from: [hmi]", "from: hmi"}, []string{
			"32:11: from must be a list: write [hmi]",
		}},
		{"mapping of the wrong kind", []string{"sides: {a: [cell], b: [room]}", "sides: [cell, room]"}, []string{
			"6:12: sides must be a mapping of keys to values, not a list",
		}},
		{"null element", []string{"from: [hmi]", "from: [~]"}, []string{
			"32:12: an element of from is empty: remove it, or write its value",
		}},
		{"empty list", []string{"from: [hmi]", "from: []"}, []string{
			"32:11: from is empty: list something, or leave the key out",
		}},
		{"alias", []string{"site: test", "site: &x test", "from: [hmi]", "from: [*x]"}, []string{
			"32:12: aliases are not used in a policy: write out what *x stands for",
		}},
		{"explicit tag", []string{"site: test", "site: !!str test"}, []string{
			"2:7: tags are not used in a policy: remove !!str",
		}},
		{"two errors in one file, sorted", []string{"sl_target: 2}\nidentities", "sl_target: 9}\nidentities", "site: test", "sit: test"}, []string{
			"2:1: the policy has no key \"sit\": did you mean \"site\"?",
			"11:29: sl_target cannot be \"9\": write a whole number from 0 to 4",
		}},
		{"mode that does not exist", []string{"mode: enforce", "mode: enforced"}, []string{
			"3:7: mode cannot be \"enforced\": did you mean \"enforce\"?",
		}},
		{"default that does not exist", []string{"on_outage: open", "on_outage: shut"}, []string{
			"8:14: on_outage cannot be \"shut\"; it is open or closed",
		}},
		{"name with a blank", []string{"name: hmi", "name: hmi 1"}, []string{
			"13:11: name cannot be \"hmi 1\": a name is made of letters, digits, '-', '_' and '.'",
			"32:12: there is no identity \"hmi\"; add it under identities",
		}},
		{"reserved name", []string{"name: hmi\n", "name: broadcast\n"}, []string{
			"13:11: name cannot be \"broadcast\": the word has a meaning of its own, use another name",
			"32:12: there is no identity \"hmi\"; add it under identities",
		}},
		{"duplicate zone", []string{"name: cell", "name: room"}, []string{
			"6:17: there is no zone \"cell\"; add it under zones",
			"11:5: zone \"room\" is there already, on line 10: rename one",
			"18:11: there is no zone \"cell\"; add it under zones",
		}},
		{"duplicate identity", []string{"name: plc", "name: hmi"}, []string{
			"17:5: identity \"hmi\" is there already, on line 13: rename one",
			"33:10: there is no identity \"plc\"; add it under identities",
			"40:10: there is no identity \"plc\"; add it under identities",
		}},
		{"duplicate conduit", []string{"name: web", "name: speak"}, []string{
			"38:5: conduit \"speak\" is there already, on line 31: rename one",
		}},
		{"duplicate appliance", []string{"defaults:", "  - name: gate\n    sides: {a: [cell], b: [room]}\ndefaults:"}, []string{
			"7:5: appliance \"gate\" is there already, on line 5: rename one",
		}},
		{"duplicate MAC", []string{"mac: 02:00:00:00:00:10", "mac: 02-00-00-00-00-20"}, []string{
			"19:5: mac 02:00:00:00:00:20 is that of identity \"hmi\" already: every device has its own; what is behind a router has via instead",
		}},
		{"duplicate address", []string{"ip: [198.18.0.10]", "ip: [198.18.0.20]"}, []string{
			"20:10: ip 198.18.0.20 is that of identity \"hmi\" already, on line 16: an address has one owner",
		}},
		{"address twice in one identity", []string{"ip: [198.18.0.10]", "ip: [198.18.0.10, 198.18.0.10]"}, []string{
			"20:23: ip lists 198.18.0.10 twice: remove one",
		}},
		{"network of a device around another", []string{"ip: [198.18.0.10]", "ip: [198.18.0.0/24]"}, []string{
			"20:10: ip 198.18.0.0/24 holds 198.18.0.1, which is identity \"router\"'s: only a network behind a router (via) may hold other identities' addresses",
			"20:10: ip 198.18.0.0/24 holds 198.18.0.20, which is identity \"hmi\"'s: only a network behind a router (via) may hold other identities' addresses",
		}},
		{"zone that does not exist on a side", []string{"a: [cell]", "a: [sell]"}, []string{
			"6:17: there is no zone \"sell\": did you mean \"cell\"?",
		}},
		{"zone twice on a side", []string{"a: [cell]", "a: [cell, cell]"}, []string{
			"6:23: side a lists zone \"cell\" twice: remove one",
		}},
		{"zone that does not exist", []string{"zone: cell", "zone: cellar"}, []string{
			"18:11: there is no zone \"cellar\": did you mean \"cell\"?",
		}},
		{"identity that does not exist", []string{"from: [hmi]", "from: [hmi2]"}, []string{
			"32:12: there is no identity \"hmi2\": did you mean \"hmi\"?",
		}},
		{"zone without its prefix", []string{"from: [hmi]", "from: [room]"}, []string{
			"32:12: there is no identity \"room\"; the zone of that name is written zone:room",
		}},
		{"zone selector that does not exist", []string{"from: [hmi]", "from: [\"zone:rom\"]"}, []string{
			"32:12: there is no zone \"rom\": did you mean \"room\"?",
		}},
		{"zone selector without identities", []string{"  - {name: cell, sl_target: 2}", "  - {name: cell, sl_target: 2}\n  - {name: void, sl_target: 1}", "from: [hmi]", "from: [zone:void]"}, []string{
			"33:12: from: zone \"void\" has no identities, so it selects nobody: add them, or remove it",
		}},
		{"selector prefix that does not exist", []string{"from: [hmi]", "from: [zones:room]"}, []string{
			"32:12: from: \"zones:room\" cannot be read: did you mean \"zone\"?",
		}},
		{"selector twice", []string{"from: [hmi]", "from: [hmi, hmi]"}, []string{
			"32:17: from lists \"hmi\" twice: remove one",
		}},
		{"router that does not exist", []string{"via: router", "via: ruoter"}, []string{
			"28:10: there is no identity \"ruoter\": did you mean \"router\"?",
		}},
		{"via something that is no router", []string{"via: router", "via: hmi"}, []string{
			"28:10: \"hmi\" is no router: give it role: router if others are behind it",
		}},
		{"via behind a router", []string{"conduits:", "  - {name: further, zone: room, via: far, ip: [198.18.128.1]}\nconduits:"}, []string{
			"30:38: \"far\" is behind a router itself: name the router whose MAC address is seen here, \"router\"",
		}},
		{"router without addresses", []string{"    ip: [198.18.0.1]\n", ""}, []string{
			"21:5: router \"router\" has no ip: write its own addresses, which tell its own traffic from that of those behind it",
		}},
		{"neither mac nor via", []string{"    mac: 02:00:00:00:00:20\n", ""}, []string{
			"13:5: identity \"hmi\" has no mac and no via: write its MAC address, or the router that it is behind",
		}},
		{"mac and via", []string{"via: router", "via: router\n    mac: 02:00:00:00:00:44"}, []string{
			"29:5: identity \"far\" has mac and via: behind a router its frames carry the router's MAC address, remove one",
		}},
		{"via without an address", []string{"    ip: [198.18.64.0/18]\n", ""}, []string{
			"26:5: identity \"far\" has via and no ip: behind a router only its address tells who it is, add ip",
		}},
		{"vlan and side behind a router", []string{"via: router", "via: router\n    vlan: 10\n    side: b"}, []string{
			"29:5: identity \"far\" is in its router's vlan: write it there",
			"30:5: identity \"far\" is on its router's side: write it there",
		}},
		{"router on the other side", []string{"zone: room\n    via", "zone: cell\n    via"}, []string{
			"28:10: router \"router\" is on side b of appliance \"gate\", but zone \"cell\" of identity \"far\" lies on the other: what is behind a router is where the router is",
		}},
		{"router on no side", []string{"  - {name: cell, sl_target: 2}", "  - {name: cell, sl_target: 2}\n  - {name: void, sl_target: 1}", "zone: room\n    role", "zone: void\n    role"}, []string{
			"29:10: router \"router\" lies on no side of appliance \"gate\", where zone \"room\" of identity \"far\" does: list zone \"void\" there",
		}},
		{"multicast MAC", []string{"mac: 02:00:00:00:00:20", "mac: 01:00:5e:00:00:01"}, []string{
			"15:10: mac 01:00:5e:00:00:01 is a group or broadcast address, which no device sends from: write the device's own",
		}},
		{"broadcast MAC", []string{"mac: 02:00:00:00:00:20", "mac: ff:ff:ff:ff:ff:ff"}, []string{
			"15:10: mac ff:ff:ff:ff:ff:ff is a group or broadcast address, which no device sends from: write the device's own",
		}},
		{"zero MAC", []string{"mac: 02:00:00:00:00:20", "mac: 00:00:00:00:00:00"}, []string{
			"15:10: mac 00:00:00:00:00:00 is nobody's: write the device's own",
		}},
		{"short MAC", []string{"mac: 02:00:00:00:00:20", "mac: 02:00:00:00:20"}, []string{
			"15:10: mac cannot be \"02:00:00:00:20\": write six bytes such as 02:00:00:00:00:20",
		}},
		{"bad address", []string{"[198.18.0.20]", "[198.18.0.256]"}, []string{
			"16:10: ip cannot be \"198.18.0.256\": write an address such as 198.18.0.20 or a network such as 198.18.64.0/18",
		}},
		{"bad network", []string{"[198.18.64.0/18]", "[198.18.64.0/33]"}, []string{
			"29:10: ip cannot be \"198.18.64.0/33\": write an address such as 198.18.0.20 or a network such as 198.18.64.0/18",
		}},
		{"network with bits behind its length", []string{"[198.18.64.0/18]", "[198.18.64.1/18]"}, []string{
			"29:10: ip cannot be \"198.18.64.1/18\": it has bits behind its length: write 198.18.64.0/18 for the network, or 198.18.64.1 for the one address",
		}},
		{"multicast address", []string{"[198.18.0.20]", "[239.1.1.1]"}, []string{
			"16:10: ip 239.1.1.1 is a multicast address: write the device's own address",
		}},
		{"loopback address", []string{"[198.18.0.20]", "[127.0.0.1]"}, []string{
			"16:10: ip 127.0.0.1 is a loopback address: write the device's own address",
		}},
		{"vlan 0 and 4095", []string{"zone: cell\n    mac", "zone: cell\n    vlan: [0, 4095, untagged]\n    mac"}, []string{
			"19:12: vlan cannot be \"0\": write untagged, or a number from 1 to 4094",
			"19:15: vlan cannot be \"4095\": write untagged, or a number from 1 to 4094",
		}},
		{"vlan by name", []string{"zone: cell\n    mac", "zone: cell\n    vlan: ten\n    mac"}, []string{
			"19:11: vlan cannot be \"ten\": write untagged, or a number from 1 to 4094",
		}},
		{"sl_target out of range", []string{"room, sl_target: 2", "room, sl_target: 5"}, []string{
			"10:29: sl_target cannot be \"5\": write a whole number from 0 to 4",
		}},
		{"purdue level", []string{"room, sl_target: 2", "room, sl_target: 2, purdue_level: 3.2"}, []string{
			"10:46: purdue_level cannot be \"3.2\": write 0 to 5, or 3.5",
		}},
		{"zone on both sides", []string{"a: [cell]", "a: [cell, room]"}, []string{
			"13:5: zone \"room\" lies on both sides of appliance \"gate\": say where identity \"hmi\" is, with side: a or side: b",
			"21:5: zone \"room\" lies on both sides of appliance \"gate\": say where identity \"router\" is, with side: a or side: b",
		}},
		{"zone on both sides, with sides given", []string{"a: [cell]", "a: [cell, room]", "zone: room\n    mac: 02:00:00:00:00:20", "zone: room\n    side: a\n    mac: 02:00:00:00:00:20", "role: router", "role: router\n    side: b"}, []string{
			"33:5: conduit \"speak\": from and to are never on two sides of one appliance, so it permits nothing: check the zones under appliances",
		}},
		{"side against the zone's", []string{"zone: cell\n    mac", "zone: cell\n    side: b\n    mac"}, []string{
			"19:5: identity \"plc\" is on side b, but its zone \"cell\" lies on side a of appliance \"gate\" only: remove side, or list the zone on both",
		}},
		{"side that does not exist", []string{"zone: cell\n    mac", "zone: cell\n    side: c\n    mac"}, []string{
			"19:11: side cannot be \"c\": did you mean \"a\"?",
		}},
		{"conduit on one side", []string{"to: [plc]\n    protocol: tcp", "to: [hmi]\n    protocol: tcp"}, []string{
			"38:5: conduit \"web\": from and to are never on two sides of one appliance, so it permits nothing: check the zones under appliances",
		}},
		{"conduit with zones nowhere", []string{"  - {name: cell, sl_target: 2}", "  - {name: cell, sl_target: 2}\n  - {name: void, sl_target: 1}", "conduits:", "  - {name: ghost, zone: void, mac: 02:00:00:00:00:66}\nconduits:", "from: [far]", "from: [ghost]"}, []string{
			"40:5: conduit \"web\": the zones of from lie on no side of any appliance, so nothing of it is carried: list them under appliances",
		}},
		{"protocol that does not exist", []string{"protocol: tcp", "protocol: modbos"}, []string{
			"41:15: protocol cannot be \"modbos\": did you mean \"modbus\"?",
		}},
		{"missing conduit keys", []string{"    from: [far]\n    to: [plc]\n    protocol: tcp\n", ""}, []string{
			"38:5: a conduit has no \"from\": add it",
			"38:5: a conduit has no \"to\": add it",
			"38:5: a conduit has no \"protocol\": add it",
		}},
		{"plain conduit over an inspected one", []string{"from: [far]", "from: [hmi]", "ports: [443]", "ports: [400-600]"}, []string{
			"38:5: conduit \"web\" permits tcp 502 from hmi to plc unread, which conduit \"speak\" (line 31) inspects: take those ports or identities out of it",
		}},
		{"plain conduit for every port over an inspected one", []string{"from: [far]", "from: [zone:room]", "    ports: [443]\n", ""}, []string{
			"38:5: conduit \"web\" permits tcp 502 from hmi to plc unread, which conduit \"speak\" (line 31) inspects: take those ports or identities out of it",
		}},
		{"two inspected conduits", []string{"conduits:\n", "conduits:\n  - {name: twice, from: [hmi], to: [zone:cell], protocol: modbus, rules: [{functions: [write]}]}\n"}, []string{
			"32:5: conduit \"speak\" and conduit \"twice\" (line 31) both judge what hmi sends to plc on tcp 502: join their rules in one conduit",
		}},
		{"two inspected protocols on one port", []string{"conduits:\n", "conduits:\n  - {name: other, from: [hmi], to: [plc], protocol: dnp3, ports: [502], rules: [{functions: [read]}]}\n"}, []string{
			"32:5: conduit \"speak\" and conduit \"other\" (line 31) both judge what hmi sends to plc on tcp 502: join their rules in one conduit",
		}},
		{"plain conduit for the answers of cyclic I/O", []string{"conduits:\n", cyclicConduit + "  - {name: back, from: [zone:cell], to: [zone:room], protocol: udp, ports: [2000-2300]}\n"}, []string{
			"32:6: conduit \"back\" permits udp 2222 from plc to hmi unread, which passes on the connections that conduit \"cyclic\" (line 31) permits: take that port or those identities out of it",
		}},
		{"plain conduit for every port back from cyclic I/O", []string{"conduits:\n", cyclicConduit + "  - {name: back, from: [plc], to: [hmi], protocol: udp}\n"}, []string{
			"32:6: conduit \"back\" permits udp 2222 from plc to hmi unread, which passes on the connections that conduit \"cyclic\" (line 31) permits: take that port or those identities out of it",
		}},
		{"plain conduit back for other ports, over TCP, and to another", []string{"conduits:\n", cyclicConduit + "  - {name: back, from: [plc], to: [hmi], protocol: udp, ports: [1-2221, 2223-65535]}\n" +
			"  - {name: web-back, from: [plc], to: [hmi], protocol: tcp}\n  - {name: elsewhere, from: [plc], to: [far], protocol: udp, ports: [2222]}\n"}, []string{}},
		{"cyclic I/O both ways", []string{"conduits:\n", cyclicConduit + strings.NewReplacer("cyclic", "back", "[hmi]", "[plc]", "[plc]", "[hmi]").Replace(cyclicRow)}, []string{}},
		{"plain conduit back where there is no cyclic I/O", []string{"conduits:\n", strings.Replace(cyclicConduit, "enip,", "enip, ports: [44818],", 1) +
			"  - {name: back, from: [plc], to: [hmi], protocol: udp, ports: [2222]}\n"}, []string{}},
		{"target of 3 and open", []string{"room, sl_target: 2", "room, sl_target: 3"}, []string{
			"31:5: conduit \"speak\" has a target of SL 3 and opens in an outage, which SL 3 and 4 exclude: write on_outage: closed, or a waiver with owner, expires and compensating",
			"38:5: conduit \"web\" has a target of SL 3 and opens in an outage, which SL 3 and 4 exclude: write on_outage: closed, or a waiver with owner, expires and compensating",
		}},
		{"target of 3, open, own", []string{"    protocol: tcp", "    sl_target: 4\n    on_outage: open\n    protocol: tcp"}, []string{
			"42:5: conduit \"web\" has a target of SL 4 and opens in an outage, which SL 3 and 4 exclude: write on_outage: closed, or a waiver with owner, expires and compensating",
		}},
		{"target of 3 with a waiver", []string{"    protocol: tcp", "    sl_target: 3\n    waiver: {owner: ada, expires: 2027-01-31, compensating: guard at the gate}\n    protocol: tcp"}, []string{}},
		{"vector of targets", []string{"room, sl_target: 2", "room, sl_target: {iac: 4, rdf: 2}"}, []string{}},
		{"vector with a restricted data flow of 3 and open", []string{"    protocol: tcp", "    sl_target: {rdf: 3}\n    on_outage: open\n    protocol: tcp"}, []string{
			"42:5: conduit \"web\" has a target of SL 3 and opens in an outage, which SL 3 and 4 exclude: write on_outage: closed, or a waiver with owner, expires and compensating",
		}},
		{"vector with a requirement that does not exist", []string{"room, sl_target: 2", "room, sl_target: {fr5: 2}"}, []string{
			"10:30: a vector of sl_target has no key \"fr5\"; its keys are iac, uc, si, dc, rdf, tre, ra",
		}},
		{"vector out of range", []string{"room, sl_target: 2", "room, sl_target: {ra: 5}"}, []string{
			"10:34: ra cannot be \"5\": write a whole number from 0 to 4",
		}},
		{"relay that opens, and a conduit that closes", []string{"    sides: {a: [cell], b: [room]}", "    sides: {a: [cell], b: [room]}\n    on_power_loss: open", "    protocol: tcp", "    on_outage: closed\n    protocol: tcp"}, []string{
			"42:5: conduit \"web\" is closed in an outage, and the relay of appliance \"gate\" is open without power: a relay does the same for all conduits; carry it over another appliance, or write on_outage: open",
		}},
		{"relay that opens as every conduit does", []string{"    sides: {a: [cell], b: [room]}", "    sides: {a: [cell], b: [room]}\n    on_power_loss: open"}, []string{}},
		{"waiver that lacks something", []string{"    protocol: tcp", "    sl_target: 3\n    waiver: {owner: ada, expires: soon}\n    protocol: tcp"}, []string{
			"42:13: a waiver has no \"compensating\": add it",
			"42:35: expires cannot be \"soon\": write a day such as 2027-06-30",
		}},
		{"waiver of nobody for nothing", []string{"    protocol: tcp", "    sl_target: 3\n    waiver: {owner: \"\", expires: 2027-01-31, compensating: \" \"}\n    protocol: tcp"}, []string{
			"42:21: owner says nothing: a waiver names who accepts it",
			"42:60: compensating says nothing: a waiver names what is done instead",
		}},
		{"second path that says nothing", []string{"    protocol: tcp", "    essential: true\n    on_outage: closed\n    second_path: \" \"\n    protocol: tcp"}, []string{
			"43:18: second_path says nothing: name how the function goes on, or leave the key out",
		}},
		{"essential and closed", []string{"    protocol: tcp", "    essential: true\n    on_outage: closed\n    protocol: tcp"}, []string{
			"42:5: conduit \"web\" is essential and closes in an outage: name how its function goes on, with second_path",
		}},
		{"essential and closed with a second path", []string{"    protocol: tcp", "    essential: true\n    on_outage: closed\n    second_path: manual valve\n    protocol: tcp"}, []string{}},
		{"rules on a plain conduit", []string{"ports: [443]", "rules: [{functions: [read]}]"}, []string{
			"42:5: rules judge messages of modbus, dnp3 and enip; tcp permits by address and port only: remove them",
		}},
		{"inspected conduit without rules", []string{"    rules:\n      - functions: [read]\n        units: [1]\n", ""}, []string{
			"31:5: a conduit of modbus permits only what its rules do, and has none: add rules",
		}},
		{"empty rules", []string{"    rules:\n      - functions: [read]\n        units: [1]\n", "    rules: []\n"}, []string{
			"35:12: rules is empty: list something, or leave the key out",
		}},
		{"rule key of another protocol", []string{"units: [1]", "tags: [Line3.*]"}, []string{
			"37:9: a rule of modbus has no key \"tags\": it selects messages of enip, and this conduit's protocol is modbus",
		}},
		{"rule key beside the rules", []string{"protocol: modbus", "protocol: modbus\n    functions: [read]"}, []string{
			"35:5: a conduit has no key \"functions\": it belongs into an element of rules",
		}},
		{"rule without functions", []string{"functions: [read]\n        units: [1]", "units: [1]"}, []string{
			"36:9: a rule of modbus has no \"functions\": add it",
		}},
		{"function that does not exist", []string{"functions: [read]", "functions: [read_holding_register]"}, []string{
			"36:21: functions cannot hold \"read_holding_register\": did you mean \"read_holding_registers\"?",
		}},
		{"function that is nothing like any", []string{"functions: [read]", "functions: [launch]"}, []string{
			"36:21: functions cannot hold \"launch\"; Modbus has no such function: write its name, its number, or read, write or diagnostics",
		}},
		{"function out of range", []string{"functions: [read]", "functions: [0, 128, 0x10]"}, []string{
			"36:21: functions cannot hold \"0\": a request's function is 1 to 127, and 128 up are exceptions",
			"36:24: functions cannot hold \"128\": a request's function is 1 to 127, and 128 up are exceptions",
		}},
		{"unit out of range", []string{"units: [1]", "units: [1, 256]"}, []string{
			"37:20: units cannot be \"256\": out of range: from 0 to 255",
		}},
		{"address out of range", []string{"units: [1]", "addresses: [65536]"}, []string{
			"37:21: addresses cannot be \"65536\": out of range: from 0 to 65535",
		}},
		{"range that runs backwards", []string{"units: [1]", "addresses: [49-40]"}, []string{
			"37:21: addresses cannot be \"49-40\": the range runs backwards: write 40-49",
		}},
		{"range that is none", []string{"units: [1]", "addresses: [40-]"}, []string{
			"37:21: addresses cannot be \"40-\": write a number or a range such as 0-9",
		}},
		{"number with a leading zero", []string{"units: [1]", "units: [010]"}, []string{
			"37:17: units cannot be \"010\": write a number or a range such as 0-9",
		}},
		{"values on reads", []string{"units: [1]", "values: [0-10]"}, []string{
			"36:21: read has no values, so this rule would never permit it: give it a rule without them",
		}},
		{"values of coils", []string{"functions: [read]", "functions: [write_single_coil]", "units: [1]", "values: [5]"}, []string{
			"36:21: write_single_coil has no values but 0 and 1, so this rule would never permit it: give it a rule without them",
		}},
		{"addresses on functions without any", []string{"functions: [read]", "functions: [read, 17]", "units: [1]", "addresses: [5]"}, []string{
			"36:27: 17 has no addresses, so this rule would never permit it: give it a rule without them",
		}},
		{"sub-functions without diagnostics", []string{"units: [1]", "sub_functions: [0]"}, []string{
			"37:9: sub_functions select messages of diagnostics, which functions does not list: add it, or remove them",
		}},
		{"sub-function that does not exist", []string{"functions: [read]", "functions: [diagnostics]", "units: [1]", "sub_functions: [return_querydata]"}, []string{
			"37:25: sub_functions cannot hold \"return_querydata\": did you mean \"return_query_data\"?",
		}},
		{"MEI type without its function", []string{"units: [1]", "mei_types: [14]"}, []string{
			"37:9: mei_types select messages of encapsulated_interface_transport, which functions does not list: add it, or remove them",
		}},
		{"MEI type that does not exist", []string{"functions: [read]", "functions: [43]", "units: [1]", "mei_types: [read_device_id]"}, []string{
			"37:21: mei_types cannot hold \"read_device_id\"; write a number from 0 to 255",
		}},
		{"files on other functions", []string{"functions: [read]", "functions: [read_coils]", "units: [1]", "files: [4]"}, []string{
			"36:21: read_coils has no files, so this rule would never permit it: give it a rule without them",
		}},
		{"file out of range", []string{"units: [1]", "files: [\"0\", \"4:0-10000\"]"}, []string{
			"37:17: files cannot hold \"0\": write a file from 1 to 65535, and records if not all are meant, such as 4:0-99",
			"37:22: files cannot hold \"4:0-10000\": its records: out of range: from 0 to 9999",
		}},
		{"payload prefix of a public function", []string{"units: [1]", "payload_prefix: [\"0010\"]"}, []string{
			"36:21: read has no payload_prefix (its fields have selectors of their own), so this rule would never permit it: give it a rule without them",
		}},
		{"payload prefix that is not hexadecimal", []string{"functions: [read]", "functions: [90]", "units: [1]", "payload_prefix: [xyz]"}, []string{
			"37:26: payload_prefix cannot hold \"xyz\": write 1 to 252 bytes in hexadecimal, such as \"0010\"",
		}},
		{"quantity out of range", []string{"units: [1]", "max_quantity: 0"}, []string{
			"37:23: max_quantity cannot be \"0\": write a whole number from 1 to 2000",
		}},
		{"rate", []string{"units: [1]", "rate: 10 per second"}, []string{
			"37:15: rate cannot be \"10 per second\": write a number from 1 to 1000000 for each second, minute or hour, such as 10/s, 5/m or 1/h",
		}},
		{"rate of nothing", []string{"units: [1]", "rate: 0/s"}, []string{
			"37:15: rate cannot be \"0/s\": write a number from 1 to 1000000 for each second, minute or hour, such as 10/s, 5/m or 1/h",
		}},
		{"port 0", []string{"ports: [443]", "ports: [0]"}, []string{
			"42:13: ports cannot hold \"0\": out of range: from 1 to 65535",
		}},
		{"port out of range", []string{"ports: [443]", "ports: [65536]"}, []string{
			"42:13: ports cannot hold \"65536\": out of range: from 1 to 65535",
		}},
		{"port of another transport", []string{"ports: [443]", "ports: [udp/443]"}, []string{
			"42:13: ports cannot hold \"udp/443\": the ports of tcp are those of tcp here",
		}},
		{"modbus over UDP", []string{"protocol: modbus", "protocol: modbus\n    ports: [udp/502]"}, []string{
			"35:13: ports cannot hold \"udp/502\": the ports of modbus are those of tcp here",
		}},
		{"ports on icmp", []string{"protocol: tcp", "protocol: icmp"}, []string{
			"42:5: ports does not apply to protocol icmp, which has types: remove it",
		}},
		{"icmp type that does not exist", []string{"protocol: tcp\n    ports: [443]", "protocol: icmp\n    types: [echo, 256]"}, []string{
			"42:13: types cannot hold \"echo\"; write a name such as echo_request, or a number from 0 to 255",
			"42:19: types cannot hold \"256\"; write a name such as echo_request, or a number from 0 to 255",
		}},
		{"ethertype missing", []string{"protocol: tcp\n    ports: [443]", "protocol: ethertype"}, []string{
			"38:5: a conduit has no \"ethertypes\": add it",
		}},
		{"ethertype that does not exist", []string{"protocol: tcp\n    ports: [443]", "protocol: ethertype\n    ethertypes: [profinett, 0x05ff, 0x0800, 0x0806, 0x8100]"}, []string{
			"42:18: ethertypes cannot hold \"profinett\": did you mean \"profinet\"?",
			"42:29: ethertypes cannot hold \"0x05ff\"; write a name such as profinet, or a number from 0x0600 to 0xffff",
			"42:37: ethertypes cannot hold \"0x0800\": IP is permitted by conduits of tcp, udp, icmp or an inspected protocol",
			"42:45: ethertypes cannot hold \"0x0806\": ARP passes between identities by itself, guarded by defaults.arp",
			"42:53: ethertypes cannot hold \"0x8100\": tags are looked through; say on an identity which vlan it is in",
		}},
		{"exception on a plain conduit", []string{"ports: [443]", "ports: [443]\n    on_deny: exception"}, []string{
			"43:14: on_deny cannot be exception: tcp has no refusal of its own, write drop or reset",
		}},
		{"joining on a plain conduit", []string{"ports: [443]", "ports: [443]\n    on_join: reset"}, []string{
			"43:14: on_join is for conduits whose messages are read: tcp has none, remove it",
		}},
		{"a joining that is none", []string{"ports: [443]", "ports: [443]\n    on_join: guess"}, []string{
			"43:14: on_join cannot be \"guess\"; it is resync or reset",
			"43:14: on_join is for conduits whose messages are read: tcp has none, remove it",
		}},
		{"discover on a conduit", []string{"ports: [443]", "ports: [443]\n    mode: discover"}, []string{
			"43:11: mode cannot be \"discover\"; it is observe or enforce",
		}},
		{"group as a source", []string{"from: [far]", "from: [\"group:goose\"]"}, []string{
			"39:12: from: \"group:goose\" is a destination, nothing comes from it: name identities or zones",
		}},
		{"broadcast as a source", []string{"from: [far]", "from: [broadcast]"}, []string{
			"39:12: from: \"broadcast\" is a destination, nothing comes from it: name identities or zones",
		}},
		{"group that does not exist", []string{"to: [plc]\n    protocol: tcp", "to: [\"group:gose\"]\n    protocol: tcp"}, []string{
			"40:10: to: \"group:gose\" is not known: did you mean \"goose\"?",
		}},
		{"group that is no group", []string{"to: [plc]\n    protocol: tcp", "to: [\"group:198.18.0.0/16\", \"group:02:00:00:00:00:10\", \"group:01:00:5e:00:00:01\", \"group:ff:ff:ff:ff:ff:ff\", \"group:224.0.0.0/3\"]\n    protocol: tcp"}, []string{
			"40:10: to: \"group:198.18.0.0/16\" is not a multicast network: IPv4 groups lie in 224.0.0.0/4, IPv6 groups in ff00::/8",
			"40:33: to: \"group:02:00:00:00:00:10\" is the address of one device: name its identity instead",
			"40:60: to: \"group:01:00:5e:00:00:01\" carries IP groups: write the IP group, such as group:239.192.0.0/14",
			"40:87: to: \"group:ff:ff:ff:ff:ff:ff\" is the broadcast address: write broadcast",
			"40:114: to: \"group:224.0.0.0/3\" is not a multicast network: IPv4 groups lie in 224.0.0.0/4, IPv6 groups in ff00::/8",
		}},
		{"dnp3 function", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[raed]", "units: [1]", "masters: [1]"}, []string{
			"36:21: functions cannot hold \"raed\": did you mean \"read\"?",
		}},
		{"dnp3 objects and points", []string{"protocol: modbus", "protocol: dnp3", "units: [1]", "objects: [g12, g12v1, 12v1, g300v1]\n        points: [4294967296]"}, []string{
			"37:31: objects cannot hold \"12v1\": write group and variation such as g12v1, or g12 for every variation",
			"37:37: objects cannot hold \"g300v1\": write group and variation such as g12v1, or g12 for every variation",
			"38:18: points cannot be \"4294967296\": write a number or a range such as 0-9",
		}},
		{"dnp3 control codes without a control", []string{"protocol: modbus", "protocol: dnp3", "units: [1]", "control_codes: [latch_on]"}, []string{
			"37:9: control_codes select control blocks, and none of functions carries them: add select, operate or direct_operate, or remove them",
		}},
		{"dnp3 limits without a control", []string{"protocol: modbus", "protocol: dnp3", "units: [1]", "count: [1]\n        values: [1]\n        select_before_operate: true"}, []string{
			"37:9: count select control blocks, and none of functions carries them: add select, operate or direct_operate, or remove them",
			"38:9: values select what analog outputs are set to, and none of functions sets them: add select, operate, direct_operate or write, or remove them",
			"39:9: select_before_operate binds operate to its select: it needs operate among functions, and direct_operate, which has no select, in a rule of its own",
		}},
		{"dnp3 select that binds a direct operate", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[operate, direct_operate]", "units: [1]", "select_before_operate: 5m1s\n        off_time: [x]"}, []string{
			"37:32: select_before_operate cannot be \"5m1s\": write true (which is 10s), or how long a select holds, such as 5s, up to 5m0s",
			"38:20: off_time cannot be \"x\": write a number or a range such as 0-9",
		}},
		{"dnp3 classes, values and files", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[read, write]", "units: [1]", "classes: [4]\n        values: [5-1, 1e9]\n        files: [\"../x\", \"\"]"}, []string{
			"37:19: classes cannot hold \"4\"; write a number from 0 to 3",
			"38:18: values cannot be \"5-1\": the range runs backwards: write 1-5",
			"38:23: values cannot be \"1e9\": write a number or a range such as 0-1500, -10-10 or 2.5-7.5",
			"39:17: files cannot hold \"../x\": write the name without ..",
			"39:25: files cannot hold \"\": a name has 1 to 256 characters",
		}},
		{"dnp3 control code that does not exist", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[select]", "units: [1]", "control_codes: [latch_open, 0x41]"}, []string{
			"37:25: control_codes cannot hold \"latch_open\": did you mean \"latch_on\"?",
		}},
		{"dnp3 control codes of another object", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[select]", "units: [1]", "control_codes: [trip]\n        objects: [g41v1]"}, []string{
			"37:9: control_codes are those of g12v1, which objects does not list: add it, or remove them",
		}},
		{"dnp3 objects on a function without any", []string{"protocol: modbus", "protocol: dnp3", "[read]", "[delay_measure]", "units: [1]", "objects: [g1v1]"}, []string{
			"37:9: objects select what a message names, and none of functions names any: remove them",
		}},
		{"dnp3 reserved addresses", []string{"protocol: modbus", "protocol: dnp3", "units: [1]", "masters: [65533]\n        outstations: [65533, 65530]"}, []string{
			"37:9: masters cannot hold 65533: a station's address is at most 65519",
			"38:9: outstations cannot hold 65530: a station's address is at most 65519",
		}},
		{"enip service that does not exist", []string{"protocol: modbus", "protocol: enip", "functions: [read]", "services: [get_attribute_singel]", "units: [1]", "classes: [identity, assembley]"}, []string{
			"36:20: services cannot hold \"get_attribute_singel\": did you mean \"get_attribute_single\"?",
			"37:29: classes cannot hold \"assembley\": did you mean \"assembly\"?",
		}},
		{"enip tags and classes", []string{"protocol: modbus", "protocol: enip", "functions: [read]", "services: [read_tag]", "units: [1]", "classes: [identity]\n        tags: [\"Line3.*\", \"a b\"]"}, []string{
			"37:9: a message names a tag or an object, never both: split this rule in two, one with tags and one with classes",
			"38:27: tags cannot hold \"a b\": a tag is made of letters, digits and _.:[], with * and ? for what may vary",
		}},
		{"enip io without forward open", []string{"protocol: modbus", "protocol: enip", "functions: [read]", "services: [read_tag]", "units: [1]", "io: {max_size: 0, min_rpi: 10}"}, []string{
			"37:9: io says what a connection may carry, and none of services opens one: add forward_open, or remove it",
			"37:13: io has no \"assemblies\": add it",
			"37:24: max_size cannot be \"0\": write a whole number from 1 to 65535",
			"37:36: min_rpi cannot be \"10\": write a duration such as 10ms, up to 1h0m0s",
		}},
		{"enip files of PCCC", []string{"protocol: modbus", "protocol: enip", "functions: [read]", "services: [execute_pccc]", "units: [1]", "pccc: {files: [\"NX7\", \"NB7:0-9\", \"7:9-0\"], functions: [protected_read]}"}, []string{
			"37:24: files cannot hold \"NX7\": write a file from 0 to 65535, and elements if not all are meant, such as 7:0-99 or N7:0-99",
			"37:31: files cannot hold \"NB7:0-9\": write a file from 0 to 65535, and elements if not all are meant, such as 7:0-99 or N7:0-99",
			"37:42: files cannot hold \"7:9-0\": its elements: the range runs backwards: write 0-9",
			"37:64: functions cannot hold \"protected_read\": did you mean \"unprotected_read\"?",
		}},
		{"enip route", []string{"protocol: modbus", "protocol: enip", "functions: [read]", "services: [forward_open]", "units: [1]", "route: [\"1/0\", \"1\", \"0/0\", \"2/198.18.0.9,1/256\"]"}, []string{
			"37:24: route cannot hold \"1\": write each hop as port/link such as 1/0 or 2/198.18.0.9, and a comma between two",
			"37:29: route cannot hold \"0/0\": write each hop as port/link such as 1/0 or 2/198.18.0.9, and a comma between two",
			"37:36: route cannot hold \"2/198.18.0.9,1/256\": write each hop as port/link such as 1/0 or 2/198.18.0.9, and a comma between two",
		}},
		{"second document", []string{"conduits:", "---\nconduits:"}, []string{
			"30:1: a second document begins here: a file holds one policy, remove the \"---\"",
		}},
		{"not YAML: unclosed list", []string{"to: [plc]\n    protocol: tcp", "to: [plc\n    protocol: tcp"}, []string{
			"42:5: not YAML: did not find expected ',' or ']'",
		}},
		{"not YAML: tab", []string{"    protocol: tcp", "\tprotocol: tcp"}, []string{
			"41:1: not YAML: found character that cannot start any token",
		}},
		{"not YAML: two colons", []string{"site: test", "site: te: st"}, []string{
			"2:1: not YAML: mapping values are not allowed in this context",
		}},
		{"not YAML: indentation", []string{"    zone: cell", "   zone: cell"}, []string{
			"18:4: not YAML: did not find expected '-' indicator",
		}},
		{"not YAML: unclosed quote", []string{"site: test", "site: \"test"}, []string{
			"2:1: not YAML: found unexpected end of stream",
		}},
		{"not YAML: alias of nothing", []string{"site: test", "site: *x"}, []string{
			"2:7: aliases are not used in a policy: write out what *x stands for",
		}},
		{"not YAML: control character", []string{"site: test", "site: t\u0001st"}, []string{
			"2:1: not YAML: control characters are not allowed",
		}},
	}
}

// cyclicRow is a conduit with cyclic I/O, and cyclicConduit the beginning of the conduits with it.
const (
	cyclicRow     = "  - {name: cyclic, from: [hmi], to: [plc], protocol: enip, rules: [{services: [forward_open], io: {assemblies: [100]}}]}\n"
	cyclicConduit = "conduits:\n" + cyclicRow
)
