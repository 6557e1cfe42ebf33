// Command config says what go-zero understands and publishes, so that it can be compared with what this library does.
package main

import (
	"fmt"
	"os"
)

// programs has what there is to run, each with one argument.
var programs = map[string]func(string) error{
	"conf":      understand,
	"advertise": advertise,
}

func main() {
	if len(os.Args) != 3 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: config conf FOLDER | advertise HOST:PORT")
		os.Exit(2)
	}
	if err := programs[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
