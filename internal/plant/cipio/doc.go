// Package cipio is an EtherNet/IP adapter and a scanner for tests: a device that takes I/O
// connections of CIP transport class 1 and produces and consumes on them, and an originator that
// opens them. It reads and writes the protocol by itself and shares nothing with the dissectors, so
// that neither can be wrong in the other's way. CIP volume 1, 3-5, and volume 2, 2-3 to 3-2.
//
// Every frame carries when it was sent, and every consumer keeps how long its frames were under way
// by the clock of the one machine that both ends run on.
package cipio
