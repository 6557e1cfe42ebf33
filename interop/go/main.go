// Command interop is a participant of a mixed fleet: a server or caller with go-zero or etcd's naming resolver.
//
// It prints its events to standard output, one line of JSON each. It ends when its standard input ends, so that it does
// not outlive the program that started it.
//
// It also prints what go-zero reads from configurations and publishes, for comparison with this library.
package main

import (
	"fmt"
	"io"
	"os"
)

// participants has the roles in a fleet. Each takes the path of a go-zero configuration file.
var participants = map[string]func(file string) error{
	"server":        serve,
	"caller":        call,
	"checker":       check,
	"publisher":     publish,
	"subscriber":    subscribe,
	"naming-server": serveByName,
	"naming-caller": callByName,
}

// answers has the queries about go-zero: the configurations that it reads from a folder, and the addresses that it
// publishes in the etcd at an address.
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
