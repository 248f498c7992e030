package outage

import (
	"fmt"

	"github.com/warthog618/go-gpiocdev"
)

// Line is a line of a gpio chip, requested as an output.
type Line struct{ *gpiocdev.Line }

// OpenLine requests a line, by the chip's name, such as gpiochip0, and the line's offset. It drives the
// value from the moment at which it is an output.
func OpenLine(chip string, offset, value int) (*Line, error) {
	l, err := gpiocdev.RequestLine(chip, offset, gpiocdev.AsOutput(value), gpiocdev.WithConsumer("penstock-relay"))
	if err != nil {
		return nil, fmt.Errorf("request line %d of %s: %w: gpioinfo lists what there is", offset, chip, err)
	}
	return &Line{l}, nil
}
