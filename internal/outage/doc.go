// Package outage knows what can fail around inspection, keeps the account of it, and drives what
// carries the line past the appliance when a person or a failure asks for it.
//
// An outage in the sense of the policy is that inspection is not possible. Other failures are none:
// frames of plain conduits go on through most of them, and those that wait for a verdict stop at the
// exit gate until the failure is mended. Each has a name, and the status shows it.
package outage
