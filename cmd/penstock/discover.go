package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock-ot/penstock/internal/identity"
)

func (a *app) discoverCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "discover",
		Short: "Show the devices and conversations seen so far, and what each device says it is",
		Args:  cobra.NoArgs,
		RunE: a.run(func(c *cobra.Command, _ []string) error {
			s, err := a.client().Inventory(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, s)
			}
			return printInventory(a.stdout, s)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printInventory(w io.Writer, s identity.Snapshot) error {
	var b strings.Builder
	if s.LeftOut > 0 {
		fmt.Fprintf(&b, "WARNING: this is not all: %d sightings found no room\n\n", s.LeftOut)
	}
	devices, talks := assetTable(s.Assets), conversationTable(s.Conversations)
	if err := devices.print(&b); err != nil {
		return err
	}
	if len(s.Assets) > 0 && len(s.Conversations) > 0 {
		b.WriteByte('\n')
	}
	if err := talks.print(&b); err != nil {
		return err
	}
	if len(s.Assets) == 0 {
		b.WriteString("nothing has been seen yet\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func assetTable(assets []identity.Asset) (t table) {
	t.add("SIDE", "MAC", "ADDRESSES", "IDENTITY", "LAST SEEN", "SAYS IT IS")
	for i := range assets {
		a := &assets[i]
		t.add(a.Side, a.MAC, or(addresses(a)), or(a.Identity), stamp(a.LastSeen), or(claims(a.Claims)))
	}
	return t
}

// shownAddresses is how many addresses of one device a table has room for.
const shownAddresses = 3

func addresses(a *identity.Asset) string {
	list := a.Addresses
	if len(list) <= shownAddresses {
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shownAddresses], " "), len(list)-shownAddresses)
}

func claims(list []identity.Claim) string {
	var said []string
	for i := range list {
		c := &list[i]
		words := []string{c.Protocol + ":"}
		for _, w := range []string{c.Vendor, c.Product, c.Type, c.Revision} {
			if w != "" {
				words = append(words, w)
			}
		}
		if c.Serial != "" {
			words = append(words, "serial "+c.Serial)
		}
		if c.Name != "" {
			words = append(words, "called "+c.Name)
		}
		said = append(said, strings.Join(words, " "))
	}
	return strings.Join(said, "; ")
}

func conversationTable(list []identity.Conversation) (t table) {
	t.add("CLIENT", "SERVER", "SERVICE", "CONDUIT", "FRAMES", "LAST SEEN")
	for i := range list {
		c := &list[i]
		service := c.Protocol
		if c.Port != 0 {
			service += "/" + strconv.Itoa(int(c.Port))
		}
		t.add(end(c.Client, c.ClientAddress, c.ClientMAC), end(c.Server, c.ServerAddress, c.ServerMAC),
			service, or(c.Conduit), unsigned(c.Frames), stamp(c.LastSeen))
	}
	return t
}

// end names an end by the policy's name and its address, or its MAC address where it has none.
func end(name, address, mac string) string {
	if address == "" {
		address = mac
	}
	if name == "" {
		return address
	}
	return name + " (" + address + ")"
}
