package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
)

const linksDir = "links"

// layoutDir is where the maps of one layout are pinned. Layouts lie side by side, so that maps
// of an older or newer one stay with the programs that use them until those are replaced.
func layoutDir(pinDir string, version int) string {
	return filepath.Join(pinDir, fmt.Sprintf("layout-%d", version))
}

// pinned says which maps outlive the daemon. The compiler's own (.rodata and the like) do not.
func pinned(name string) bool { return !strings.HasPrefix(name, ".") }

// removeRemains makes sure that the maps in dir are all there or none of them, and reports none. Some
// are what a removal left that was cut off. They know of flows and slots of which the others, made
// anew, know nothing: a slot would be handed out twice, or none at all.
func removeRemains(dir string, spec *ebpf.CollectionSpec) (none bool, err error) {
	present, missing := 0, 0
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return false, fmt.Errorf("look for the pinned maps: %w", err)
		default:
			present++
		}
	}
	if missing == 0 {
		return false, nil
	}
	if present > 0 {
		if err := os.RemoveAll(dir); err != nil {
			return false, fmt.Errorf("remove what was left of the pins in %s: %w", dir, err)
		}
	}
	return true, nil
}

// otherLayouts returns the names of the directories that hold the maps of other layouts than ours.
func otherLayouts(pinDir string) (names []string, err error) {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the pins in %s: %w", pinDir, err)
	}
	ours := filepath.Base(layoutDir(pinDir, LayoutVersion))
	for _, e := range entries {
		if e.IsDir() && e.Name() != ours && strings.HasPrefix(e.Name(), "layout-") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// removeOtherLayouts removes the pins of every layout but ours.
func removeOtherLayouts(pinDir string) error {
	names, err := otherLayouts(pinDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(pinDir, name)); err != nil {
			return fmt.Errorf("remove the pins of %s: %w", name, err)
		}
	}
	return nil
}
