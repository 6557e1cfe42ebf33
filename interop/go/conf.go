package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"
)

// understood is the configuration that go-zero reads from a file.
type understood struct {
	// Refused is set if go-zero rejects the file.
	Refused bool `json:"refused,omitempty"`
	// Varies is set if the result is not deterministic.
	Varies bool              `json:"varies,omitempty"`
	Server *understoodServer `json:"server,omitempty"`
	Client *understoodClient `json:"client,omitempty"`
}

type understoodServer struct {
	Name     string           `json:"name"`
	ListenOn string           `json:"listen_on"`
	Etcd     *understoodPlace `json:"etcd"`
}

type understoodClient struct {
	Etcd *understoodPlace `json:"etcd,omitempty"`
	// Direct has the dialled addresses.
	Direct   []string `json:"direct,omitempty"`
	App      string   `json:"app,omitempty"`
	Token    string   `json:"token,omitempty"`
	Millis   int64    `json:"millis"`
	NonBlock bool     `json:"non_block"`
}

type understoodPlace struct {
	Hosts []string `json:"hosts"`
	Key   string   `json:"key"`
	ID    int64    `json:"id,omitempty"`
	User  string   `json:"user,omitempty"`
	Pass  string   `json:"pass,omitempty"`
	// TLS has the certificate, its key and the CA.
	TLS        []string `json:"tls,omitempty"`
	SkipVerify bool     `json:"skip_verify,omitempty"`
}

// understand prints the configuration that go-zero reads from each file in a folder.
//
// The files in its folder `server` are configurations of a server, those in `client` of a client, and those in `both`
// of a server with a client `UserRpc`. `generated.json` has the texts of more files. If a file name ends with `-env`,
// go-zero expands the variables of `environment.json`.
func understand(folder string) error {
	logx.Disable()
	var environment map[string]string
	if err := readJSON(filepath.Join(folder, "environment.json"), &environment); err != nil {
		return err
	}
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	var texts map[string]string
	if err := readJSON(filepath.Join(folder, "generated.json"), &texts); err != nil {
		return err
	}
	for _, kind := range []string{"server", "client", "both"} {
		err := filepath.WalkDir(filepath.Join(folder, kind), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			texts[kind+"/"+filepath.Base(path)] = string(text)
			return err
		})
		if err != nil {
			return err
		}
	}
	place, err := os.MkdirTemp("", "conf")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(place) }()
	all := map[string]understood{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		kind, base, _ := strings.Cut(name, "/")
		path := filepath.Join(place, base)
		if err := os.WriteFile(path, []byte(texts[name]), 0o600); err != nil {
			return err
		}
		if all[name], err = understandOften(kind, path); err != nil {
			return err
		}
	}
	// One line per file makes changes easy to see.
	for at, name := range slices.Sorted(maps.Keys(all)) {
		line, err := json.Marshal(all[name])
		if err != nil {
			return err
		}
		start, end := ",", ""
		if at == 0 {
			start = "{"
		}
		if at == len(all)-1 {
			end = "\n}"
		}
		fmt.Printf("%s\n%q: %s%s", start, name, line, end)
	}
	fmt.Println()
	return nil
}

// understandOften reads a file several times, because go-zero iterates over its fields in random order.
func understandOften(kind, path string) (understood, error) {
	var first string
	var result understood
	for range 16 {
		current, err := understandFile(kind, path)
		if err != nil {
			current = understood{Refused: true}
			if os.Getenv("CONF_VERBOSE") != "" {
				fmt.Fprintln(os.Stderr, kind, filepath.Base(path), err)
			}
		}
		line, err := json.Marshal(current)
		if err != nil {
			return current, err
		}
		if first == "" {
			first, result = string(line), current
		}
		if first != string(line) {
			return understood{Varies: true}, nil
		}
		if current.Client != nil && current.Client.Direct != nil {
			break // dialling takes long
		}
	}
	return result, nil
}

func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}

func understandFile(kind, path string) (understood, error) {
	var options []conf.Option
	if name := filepath.Base(path); strings.HasSuffix(strings.TrimSuffix(name, filepath.Ext(name)), "-env") {
		options = append(options, conf.UseEnv())
	}
	switch kind {
	case "server":
		var config zrpc.RpcServerConf
		if err := conf.Load(path, &config, options...); err != nil {
			return understood{}, err
		}
		return understood{Server: asServer(config)}, nil
	case "client":
		var config zrpc.RpcClientConf
		if err := conf.Load(path, &config, options...); err != nil {
			return understood{}, err
		}
		client, err := asClient(config)
		return understood{Client: client}, err
	default:
		var config struct {
			zrpc.RpcServerConf
			UserRpc zrpc.RpcClientConf
		}
		if err := conf.Load(path, &config, options...); err != nil {
			return understood{}, err
		}
		client, err := asClient(config.UserRpc)
		return understood{Server: asServer(config.RpcServerConf), Client: client}, err
	}
}

func asServer(config zrpc.RpcServerConf) *understoodServer {
	server := understoodServer{Name: config.Name, ListenOn: config.ListenOn}
	if config.HasEtcd() {
		server.Etcd = asPlace(config.Etcd)
		if config.Etcd.HasID() {
			server.Etcd.ID = config.Etcd.ID
		}
	}
	return &server
}

func asPlace(etcd discov.EtcdConf) *understoodPlace {
	place := understoodPlace{Hosts: etcd.Hosts, Key: etcd.Key}
	if etcd.HasAccount() {
		place.User, place.Pass = etcd.User, etcd.Pass
	}
	if etcd.HasTLS() {
		place.TLS = []string{etcd.CertFile, etcd.CertKeyFile, etcd.CACertFile}
		place.SkipVerify = etcd.InsecureSkipVerify
	}
	return &place
}

func asClient(config zrpc.RpcClientConf) (*understoodClient, error) {
	client := understoodClient{Millis: max(config.Timeout, 0), NonBlock: config.NonBlock}
	if config.HasCredential() {
		client.App, client.Token = config.App, config.Token
	}
	if len(config.Endpoints) == 0 && len(config.Target) == 0 {
		// BuildTarget would read the TLS files, which do not exist.
		if err := config.Etcd.Validate(); err != nil {
			return nil, err
		}
		client.Etcd = asPlace(config.Etcd)
		return &client, nil
	}
	target, err := config.BuildTarget()
	if err != nil {
		return nil, err
	}
	if place := placeOf(target); place != nil {
		client.Etcd = place
		return &client, nil
	}
	config.NonBlock = true
	client.Direct, err = dialled(config)
	return &client, err
}

// placeOf returns the hosts and the key of an etcd target, by the rules of go-zero's internal package `targets`.
func placeOf(target string) *understoodPlace {
	parsed, err := url.Parse(target)
	if err != nil || (parsed.Scheme != "etcd" && parsed.Scheme != "discov") {
		return nil
	}
	hosts, key := parsed.Host, strings.Trim(parsed.Path, "/")
	if hosts == "" {
		hosts, key = key, parsed.Query().Get("key")
	}
	isComma := func(char rune) bool { return char == ',' }
	return &understoodPlace{Hosts: strings.FieldsFunc(hosts, isComma), Key: key}
}

// dialled returns the addresses that a client dials first.
func dialled(config zrpc.RpcClientConf) ([]string, error) {
	var lock sync.Mutex
	seen := map[string]bool{}
	note := grpc.WithContextDialer(func(_ context.Context, address string) (net.Conn, error) {
		lock.Lock()
		defer lock.Unlock()
		seen[address] = true
		return nil, errors.New("connections are disabled")
	})
	client, err := zrpc.NewClient(config, zrpc.WithDialOption(note))
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Conn().Close() }()
	client.Conn().Connect()
	time.Sleep(200 * time.Millisecond)
	lock.Lock()
	defer lock.Unlock()
	if len(seen) == 0 {
		return nil, errors.New("the client dials no address")
	}
	return slices.Sorted(maps.Keys(seen)), nil
}
