package plant

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/penstock-ot/penstock/internal/datapath"
)

// BuildLayout builds a penstockd whose pinned maps and metadata have another layout, as an older or a newer
// one may: its number is in the program's metadata, in the name of the pins, and its flow table is of
// another size. Flags are go build's.
func BuildLayout(dir string, layout int, flags ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	files := map[string][]byte{}
	for name, change := range map[string]func([]byte, int) ([]byte, error){
		"bpf/bridge_bpfel.o": changeMagic, "internal/datapath/datapath.go": changeNumber,
	} {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		if files[name], err = change(raw, layout); err != nil {
			return "", fmt.Errorf("change the layout in %s: %w", name, err)
		}
	}
	return BuildChanged(filepath.Join(dir, fmt.Sprintf("layout-%d", layout)), files, flags...)
}

// BuildChanged builds a penstockd with some files changed or added, each given by its path from the module's root, or
// by an absolute one. dir is made, and keeps them. Flags are go build's.
func BuildChanged(dir string, files map[string][]byte, flags ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	replaced := map[string]string{}
	for name, raw := range files {
		is := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(is, raw, 0o600); err != nil {
			return "", err
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(root, name)
		}
		replaced[name] = is
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	return Build(dir, "github.com/penstock-ot/penstock/cmd/penstockd", append(flags, "-overlay="+file)...)
}

func moduleRoot() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return string(bytes.TrimSpace(root)), nil
}

// changeMagic writes another layout's number into the object: where the metadata is written, and where it
// is compared.
func changeMagic(object []byte, layout int) ([]byte, error) {
	magic := func(layout int) []byte { return binary.LittleEndian.AppendUint32(nil, 0x50656e00+uint32(layout)) }
	if n := bytes.Count(object, magic(datapath.LayoutVersion)); n != 2 {
		return nil, fmt.Errorf("it holds the number of its metadata %d times, want twice", n)
	}
	return bytes.ReplaceAll(object, magic(datapath.LayoutVersion), magic(layout)), nil
}

// changeNumber writes it into the source, and halves the flow table.
func changeNumber(source []byte, layout int) ([]byte, error) {
	text, err := replaceOnce(string(source), map[string]string{
		fmt.Sprintf("const LayoutVersion = %d\n", datapath.LayoutVersion): fmt.Sprintf("const LayoutVersion = %d\n", layout),
		"	if d.config.Flows != 0 {\n":                                     "	spec.Maps[bpf.BridgeMapFlows].MaxEntries /= 2\n	if d.config.Flows != 0 {\n",
	})
	return []byte(text), err
}

// replaceOnce replaces texts, each of which has to be there once.
func replaceOnce(text string, by map[string]string) (string, error) {
	for old, now := range by {
		if n := strings.Count(text, old); n != 1 {
			return "", fmt.Errorf("it holds %q %d times, want once", old, n)
		}
		text = strings.Replace(text, old, now, 1)
	}
	return text, nil
}
