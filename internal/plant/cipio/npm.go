package cipio

import (
	"testing"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// scannerPackage is the library whose scanner is another implementation of an originator; pinned, so
// that a finding is a change of ours.
const scannerPackage = "st-ethernet-ip@2.7.5"

// InstallScanner installs the library into a directory of the test's and returns it, as
// testnet.InstallNode does.
func InstallScanner(t testing.TB) string {
	t.Helper()
	return testnet.InstallNode(t, scannerPackage)
}

// ScannerScript opens one connection of 32 bytes each way with another implementation, and prints
// when it is in step and when it is not. Its arguments are the adapter's address and its own.
const ScannerScript = `
const { IO } = require("st-ethernet-ip");
const scanner = new IO.Scanner(2222, process.argv[3]);
const connection = scanner.addConnection({
  configInstance: { assembly: 151, size: 0 },
  outputInstance: { assembly: 150, size: 32 },
  inputInstance: { assembly: 100, size: 32 },
}, 20, process.argv[2]);
connection.on("connected", () => console.log("connected"));
connection.on("disconnected", () => console.log("disconnected"));
`
