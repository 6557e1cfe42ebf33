package main

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// event is an event of a participant. At is in microseconds since 1970.
type event struct {
	At    int64  `json:"at"`
	Event string `json:"event"`
	// Address is that of the server that serves, or that responded to a call.
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
	// A write only fails if the driver has ended, and then this program ends, too.
	_ = output.Encode(e)
}

func now() int64 { return time.Now().UnixMicro() }
