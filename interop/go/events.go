package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// event is what a participant says. Times are microseconds since 1970.
type event struct {
	At    int64  `json:"at"`
	Event string `json:"event"`
	// Address is that of a server that serves, or that answered a call.
	Address string `json:"address,omitempty"`
	// Micros is how long a call took.
	Micros int64 `json:"micros,omitempty"`
	// Error is why a call failed.
	Error string `json:"error,omitempty"`
	// List has the endpoints that a subscriber sees.
	List []string `json:"list,omitempty"`
}

var (
	output = json.NewEncoder(os.Stdout)
	writes sync.Mutex
)

func emit(e event) {
	writes.Lock()
	defer writes.Unlock()
	// It fails if nobody reads, and then the program is about to end.
	_ = output.Encode(e)
}

func now() int64 { return time.Now().UnixMicro() }
