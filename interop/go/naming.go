package main

import (
	"context"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/zrpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const dialTimeout = 5 * time.Second

// serveByName runs a gRPC server that registers with etcd's naming package under a lease of 10 s. The package does not
// register a lost endpoint again, and neither does this server.
func serveByName(file string) error {
	const ttl = 10
	var config zrpc.RpcServerConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.ListenOn)
	if err != nil {
		return err
	}
	emit(event{At: now(), Event: "serving", Address: config.ListenOn})
	client, err := clientv3.New(clientv3.Config{Endpoints: config.Etcd.Hosts, DialTimeout: dialTimeout})
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&deskService, desk{address: config.ListenOn})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	ctx := context.Background()
	manager, err := endpoints.NewManager(client, config.Etcd.Key)
	if err != nil {
		return err
	}
	lease, err := client.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	endpoint := endpoints.Endpoint{Addr: config.ListenOn}
	key := config.Etcd.Key + "/" + config.ListenOn
	if err := manager.AddEndpoint(ctx, key, endpoint, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range renewals {
		}
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	select {
	case err := <-failed:
		return err
	case <-signals:
	}
	_, err = client.Revoke(ctx, lease.ID)
	server.GracefulStop()
	return err
}

// callByName calls through etcd's resolver and the balancer of its documentation.
func callByName(file string) error {
	var config zrpc.RpcClientConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: config.Etcd.Hosts, DialTimeout: dialTimeout})
	if err != nil {
		return err
	}
	builder, err := resolver.NewBuilder(client)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient("etcd:///"+config.Etcd.Key,
		grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		return err
	}
	callOpenLoop(askDesk(connection))
	return nil
}
