// Command interop is one participant of a mixed fleet: a server or a caller on go-zero, or on etcd's naming resolver.
//
// It says what happens on standard output, one line of JSON for each event, and ends with its standard input: a
// participant does not outlive the program that started it.
//
// It also says what go-zero understands and publishes, so that it can be compared with what this library does.
package main

import (
	"fmt"
	"io"
	"os"
)

// participants has who there is in a fleet. Each takes the path of a configuration file of go-zero.
var participants = map[string]func(file string) error{
	"server":        serve,
	"caller":        call,
	"checker":       check,
	"publisher":     publish,
	"subscriber":    subscribe,
	"naming-server": serveByName,
	"naming-caller": callByName,
}

// answers has what can be asked of go-zero: what it understands of the files in a folder, and what it publishes in the
// etcd at an address.
var answers = map[string]func(about string) error{
	"conf":      understand,
	"advertise": advertise,
}

func main() {
	if len(os.Args) != 3 {
		usage()
	}
	run := answers[os.Args[1]]
	if run == nil {
		run = participants[os.Args[1]]
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	if run == nil {
		usage()
	}
	if err := run(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: interop server|caller|checker|publisher|subscriber|naming-server|naming-caller FILE")
	fmt.Fprintln(os.Stderr, "       interop conf FOLDER")
	fmt.Fprintln(os.Stderr, "       interop advertise HOST:PORT")
	os.Exit(2)
}
