// Command interop is one participant of a mixed fleet: a server or a caller on go-zero, or on etcd's naming resolver.
//
// It says what happens on standard output, one line of JSON for each event, and ends with its standard input: a
// participant does not outlive the program that started it.
package main

import (
	"fmt"
	"io"
	"os"
)

// programs has what there is to run. Each takes the path of a configuration file of go-zero.
var programs = map[string]func(file string) error{
	"server":        serve,
	"caller":        call,
	"checker":       check,
	"publisher":     publish,
	"subscriber":    subscribe,
	"naming-server": serveByName,
	"naming-caller": callByName,
}

func main() {
	if len(os.Args) != 3 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr,
			"usage: interop server|caller|checker|publisher|subscriber|naming-server|naming-caller FILE")
		os.Exit(2)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := programs[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
