package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/service"
	"github.com/zeromicro/go-zero/zrpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// published is the address that a server publishes on this machine, and whether it can be reached.
type published struct {
	ListenOn string `json:"listen_on"`
	PodIP    string `json:"pod_ip"`
	Address  string `json:"address"`
	IPv4     bool   `json:"ipv4"`
	IPv6     bool   `json:"ipv6"`
}

// advertise prints the addresses that servers publish in etcd, for some listen addresses and values of POD_IP. The
// output shows each port as 8080.
func advertise(etcd string) error {
	logx.Disable()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}, DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	port := 20000
	output := json.NewEncoder(os.Stdout)
	for _, listenOn := range []string{"0.0.0.0:%s", ":%s", "[::]:%s"} {
		for _, podIP := range []string{"", "10.9.9.9", "fd00::99", "[fd00::99]", "abc"} {
			port++
			if err := os.Setenv("POD_IP", podIP); err != nil {
				return err
			}
			row, err := publishOn(client, etcd, listenOn, fmt.Sprint(port))
			if err != nil {
				return fmt.Errorf("%s with POD_IP=%s: %w", listenOn, podIP, err)
			}
			row.PodIP = podIP
			if err := output.Encode(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func publishOn(client *clientv3.Client, etcd, listenOn, port string) (published, error) {
	key := "advertise." + port
	server, err := zrpc.NewServer(zrpc.RpcServerConf{
		ServiceConf: service.ServiceConf{Name: key, Mode: service.ProMode, Log: logx.LogConf{Mode: "console", Encoding: "json"}},
		ListenOn:    fmt.Sprintf(listenOn, port),
		Etcd:        discov.EtcdConf{Hosts: []string{etcd}, Key: key},
	}, func(*grpc.Server) {})
	if err != nil {
		return published{}, err
	}
	logx.Disable()
	go server.Start()
	row := published{ListenOn: fmt.Sprintf(listenOn, "8080")}
	for deadline := time.Now().Add(10 * time.Second); row.Address == ""; {
		response, err := client.Get(context.Background(), key+"/", clientv3.WithPrefix())
		if err != nil {
			return row, err
		}
		if len(response.Kvs) > 0 {
			row.Address = string(response.Kvs[0].Value)
		} else if time.Now().After(deadline) {
			return row, fmt.Errorf("nothing is published under %s", key)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// The server publishes its address shortly before it listens.
	for range 100 {
		row.IPv4, row.IPv6 = reaches("127.0.0.1", port), reaches("::1", port)
		if row.IPv4 || row.IPv6 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	row.Address = row.Address[:len(row.Address)-len(port)] + "8080"
	return row, nil
}

func reaches(ip, port string) bool {
	connection, err := net.DialTimeout("tcp", net.JoinHostPort(ip, port), time.Second)
	if err == nil {
		_ = connection.Close()
	}
	return err == nil
}
