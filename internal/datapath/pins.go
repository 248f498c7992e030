package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const linksDir = "links"

// layoutDir is where the maps of one layout are pinned. Layouts lie side by side, so that maps
// of an older or newer one stay with the programs that use them until those are replaced.
func layoutDir(pinDir string, version int) string {
	return filepath.Join(pinDir, fmt.Sprintf("layout-%d", version))
}

// pinned says which maps outlive the daemon. The compiler's own (.rodata and the like) do not.
func pinned(name string) bool { return !strings.HasPrefix(name, ".") }

// removeOtherLayouts removes the pins of every layout but ours.
func removeOtherLayouts(pinDir string) error {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the pins in %s: %w", pinDir, err)
	}
	ours := filepath.Base(layoutDir(pinDir, LayoutVersion))
	for _, e := range entries {
		if !e.IsDir() || e.Name() == ours || !strings.HasPrefix(e.Name(), "layout-") {
			continue
		}
		if err := os.RemoveAll(filepath.Join(pinDir, e.Name())); err != nil {
			return fmt.Errorf("remove the pins of %s: %w", e.Name(), err)
		}
	}
	return nil
}
