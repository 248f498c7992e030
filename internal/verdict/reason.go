package verdict

import "fmt"

// Reason says why a verdict fell. The numbers are part of the layout shared with the fast path
// (enum penstock_reason in bpf/types.h) and with stored records: append, never renumber.
type Reason uint8

// The reasons. A comment stands where the name alone does not say what is meant.
const (
	ReasonNone Reason = iota
	ReasonPermitted
	ReasonNoConduit
	ReasonUnknownSource
	ReasonUnknownDestination
	ReasonAddressSpoofed // an address that the sending identity does not own
	ReasonWrongPort      // an identity seen on the side where it does not live
	ReasonARPSpoofed     // ARP or neighbour discovery claims an address of somebody else
	ReasonFunctionNotPermitted
	ReasonAddressNotPermitted
	ReasonValueNotPermitted
	ReasonUnitNotPermitted
	ReasonObjectNotPermitted
	ReasonPointNotPermitted
	ReasonServiceNotPermitted
	ReasonPathNotPermitted
	ReasonTagNotPermitted
	ReasonRouteNotPermitted
	ReasonUnsolicitedReply // a reply that answers no request, or another request
	ReasonMalformed
	ReasonStreamGap     // bytes before these were not seen; the sender will repeat them
	ReasonStreamOverlap // a retransmission that replaces bytes already forwarded
	ReasonFragment
	ReasonRateExceeded
	ReasonTCPOption
	ReasonTCPState
	ReasonEncapsulation // a tag stack, tunnel or link format that the conduit does not carry
	ReasonVLANNotPermitted
	ReasonQueueFull
	ReasonTableFull
	ReasonOutageClosed
	ReasonOutageOpen  // forwarded without inspection because the conduit opens in an outage
	ReasonBadChecksum // the receiver discards it, so the slow path may not believe it
	ReasonNoVerdict   // reached the exit gate without a verdict
	ReasonSameSide    // the destination lives on the side that the frame came from: not ours to carry
	ReasonLinkLocal   // link-local control traffic where the policy denies it
	ReasonUninspectable
	ReasonResynchronising // an adopted stream has not reached a message boundary yet
	ReasonNotTCP          // a transport that the conduit's protocol does not run over
	ReasonConnectionEnded // bytes of a connection that an earlier denial ended
	ReasonIONotOpen       // cyclic I/O without a connection that was permitted and opened
	ReasonIOSize          // cyclic I/O of another size than its connection was opened for
	ReasonIOSequence      // cyclic I/O with a number that was used already, or leaps ahead
	reasonCount
)

// ReasonCount is the number of reasons, for arrays indexed by Reason.
const ReasonCount = int(reasonCount)

var reasonNames = [reasonCount]string{
	ReasonNone:                 "none",
	ReasonPermitted:            "permitted",
	ReasonNoConduit:            "no_conduit",
	ReasonUnknownSource:        "unknown_source",
	ReasonUnknownDestination:   "unknown_destination",
	ReasonAddressSpoofed:       "address_spoofed",
	ReasonWrongPort:            "wrong_port",
	ReasonARPSpoofed:           "arp_spoofed",
	ReasonFunctionNotPermitted: "function_not_permitted",
	ReasonAddressNotPermitted:  "address_not_permitted",
	ReasonValueNotPermitted:    "value_not_permitted",
	ReasonUnitNotPermitted:     "unit_not_permitted",
	ReasonObjectNotPermitted:   "object_not_permitted",
	ReasonPointNotPermitted:    "point_not_permitted",
	ReasonServiceNotPermitted:  "service_not_permitted",
	ReasonPathNotPermitted:     "path_not_permitted",
	ReasonTagNotPermitted:      "tag_not_permitted",
	ReasonRouteNotPermitted:    "route_not_permitted",
	ReasonUnsolicitedReply:     "unsolicited_reply",
	ReasonMalformed:            "malformed",
	ReasonStreamGap:            "stream_gap",
	ReasonStreamOverlap:        "stream_overlap",
	ReasonFragment:             "fragment",
	ReasonRateExceeded:         "rate_exceeded",
	ReasonTCPOption:            "tcp_option",
	ReasonTCPState:             "tcp_state",
	ReasonEncapsulation:        "encapsulation",
	ReasonVLANNotPermitted:     "vlan_not_permitted",
	ReasonQueueFull:            "queue_full",
	ReasonTableFull:            "table_full",
	ReasonOutageClosed:         "outage_closed",
	ReasonOutageOpen:           "outage_open",
	ReasonBadChecksum:          "bad_checksum",
	ReasonNoVerdict:            "no_verdict",
	ReasonSameSide:             "same_side",
	ReasonLinkLocal:            "link_local",
	ReasonUninspectable:        "uninspectable",
	ReasonResynchronising:      "resynchronising",
	ReasonNotTCP:               "not_tcp",
	ReasonConnectionEnded:      "connection_ended",
	ReasonIONotOpen:            "io_not_open",
	ReasonIOSize:               "io_size",
	ReasonIOSequence:           "io_sequence",
}

// String returns the reason as everything outside writes it, in snake_case.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// MarshalText writes the reason's name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason's name.
func (r *Reason) UnmarshalText(text []byte) error {
	for i, name := range reasonNames {
		if name == string(text) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("read reason: %q is none of the %d reasons", text, reasonCount)
}
