package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// serve runs a zrpc server as in its documentation.
func serve(file string) error {
	var config zrpc.RpcServerConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	server, err := zrpc.NewServer(config, func(registrar *grpc.Server) {
		registrar.RegisterService(&deskService, desk{address: config.ListenOn})
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	emit(event{At: now(), Event: "serving", Address: config.ListenOn})
	server.Start()
	return nil
}

// call runs a zrpc client that calls Ask.
func call(file string) error {
	return callWith(file, askDesk)
}

// check runs a zrpc client that calls the health check, which does no work.
func check(file string) error {
	return callWith(file, func(connection grpc.ClientConnInterface) caller {
		client := grpc_health_v1.NewHealthClient(connection)
		return func(ctx context.Context) (string, error) {
			_, err := client.Check(ctx, new(grpc_health_v1.HealthCheckRequest))
			return "", err
		}
	})
}

func callWith(file string, calls func(grpc.ClientConnInterface) caller) error {
	logx.Disable()
	var config zrpc.RpcClientConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	client, err := zrpc.NewClient(config)
	if err != nil {
		return err
	}
	callOpenLoop(calls(client.Conn()))
	return nil
}

// publish registers the address without a server.
func publish(file string) error {
	var config zrpc.RpcServerConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	emit(event{At: now(), Event: "registering"})
	publisher := discov.NewPublisher(config.Etcd.Hosts, config.Etcd.Key, config.ListenOn)
	if err := publisher.KeepAlive(); err != nil {
		return err
	}
	emit(event{At: now(), Event: "serving", Address: config.ListenOn})
	ended := make(chan struct{})
	proc.AddShutdownListener(func() { close(ended) })
	<-ended
	return nil
}

// subscribe prints the list of endpoints whenever it changes. If SERVICES is a number n, it watches n services. Their
// keys are the one of the configuration, a dash and a number.
func subscribe(file string) error {
	logx.Disable()
	var config zrpc.RpcClientConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	var options []discov.SubOption
	etcd := config.Etcd
	if etcd.HasAccount() {
		options = append(options, discov.WithSubEtcdAccount(etcd.User, etcd.Pass))
	}
	if etcd.HasTLS() {
		options = append(options,
			discov.WithSubEtcdTLS(etcd.CertFile, etcd.CertKeyFile, etcd.CACertFile, false))
	}
	keys := []string{etcd.Key}
	if services, err := strconv.Atoi(os.Getenv("SERVICES")); err == nil {
		keys = nil
		for n := range services {
			keys = append(keys, fmt.Sprintf("%s-%d", etcd.Key, n))
		}
	}
	emit(event{At: now(), Event: "opening"})
	for _, key := range keys {
		subscriber, err := discov.NewSubscriber(etcd.Hosts, key, options...)
		if err != nil {
			return err
		}
		emitList := func() {
			list := subscriber.Values()
			slices.Sort(list)
			emit(event{At: now(), Event: "endpoints", List: list})
		}
		subscriber.AddListener(emitList)
		emitList()
	}
	emit(event{At: now(), Event: "open"})
	select {}
}
