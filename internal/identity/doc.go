// Package identity keeps what was seen of the devices on both sides of the appliance: which there
// are, where they live, who speaks with whom, and what each says of itself. It is what a person
// begins a policy with (IEC 62443-2-1 asks for the inventory, 62443-3-2 for zones drawn over it).
//
// It holds no verdicts and none rests on it. Everything is bounded, and what found no room is
// counted: a stranger who makes up addresses cannot push out a device that the policy names.
package identity
