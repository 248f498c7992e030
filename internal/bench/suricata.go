package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ot/penstock/internal/testnet"
)

// suricataConfig is Suricata inline with its Modbus parser, which is off by default, on the port
// of the conversation, and nothing that writes.
const suricataConfig = `%YAML 1.1
---
default-log-dir: DIR
default-rule-path: DIR
rule-files: [bench.rules]
classification-file: DIR/empty
reference-config-file: DIR/empty
vars:
  address-groups: {HOME_NET: any, EXTERNAL_NET: any}
  port-groups: {MODBUS_PORTS: 502}
stats: {enabled: no}
outputs: []
logging:
  default-log-level: notice
  outputs: [{console: {enabled: yes}}]
nfq: {mode: accept, fail-open: no}
stream: {inline: yes}
app-layer:
  protocols:
    modbus: {enabled: yes, detection-ports: {dp: 502}, stream-depth: 0}
`

// suricataRule refuses what tripPolicy refuses first of all: it has to parse every request.
const suricataRule = `drop modbus any any -> any any (msg:"write outside"; modbus: access write holding, address 61<>65535; sid:1; rev:1;)
`

const suricataStart = 30 * time.Second

// laySuricata lays a bridge whose packets Suricata judges. It returns nil with the reason in the
// report where it cannot be had.
func (b *bench) laySuricata() (*traveller, error) {
	path, err := exec.LookPath(b.suricata)
	if err != nil {
		b.report.remark("Suricata is missing: %v (Debian: package suricata of bookworm-backports; -suricata names another).", err)
		return nil, nil
	}
	version, err := suricataVersion(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "suricata")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	for name, text := range map[string]string{
		"suricata.yaml": strings.ReplaceAll(suricataConfig, "DIR", dir), "bench.rules": suricataRule, "empty": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("set Suricata up: %w", err)
		}
	}
	t, err := b.layReader("Suricata "+version+" inline", func(l *line) (*testnet.Process, error) {
		p, err := l.Start(l.Box, path, "-c", filepath.Join(dir, "suricata.yaml"), "-l", dir,
			"-q", strconv.Itoa(noopQueue), "--runmode", "workers")
		if err != nil {
			return nil, err
		}
		return p, p.WaitOutput("Engine started", suricataStart)
	})
	if err != nil {
		return nil, err
	}
	return t, t.holdsWrites(b)
}

// suricataVersion asks for the version: "This is Suricata version 7.0.10 RELEASE".
func suricataVersion(path string) (string, error) {
	text, err := exec.Command(path, "-V").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask Suricata for its version: %w: %s", err, text)
	}
	_, rest, found := strings.Cut(string(text), "version ")
	if !found {
		return "", fmt.Errorf("ask Suricata for its version: it says %q", text)
	}
	version, _, _ := strings.Cut(rest, " ")
	return version, nil
}
