package main

import (
	"slices"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/core/proc"
	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"
)

// serve runs a zrpc server as its documentation says.
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

// call runs a zrpc client.
func call(file string) error {
	logx.Disable()
	var config zrpc.RpcClientConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
	client, err := zrpc.NewClient(config)
	if err != nil {
		return err
	}
	callOpenLoop(client.Conn())
	return nil
}

// publish keeps the address registered without a server.
func publish(file string) error {
	var config zrpc.RpcServerConf
	if err := conf.Load(file, &config); err != nil {
		return err
	}
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

// subscribe says what the list of endpoints is whenever it changes.
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
	subscriber, err := discov.NewSubscriber(etcd.Hosts, etcd.Key, options...)
	if err != nil {
		return err
	}
	tell := func() {
		list := subscriber.Values()
		slices.Sort(list)
		emit(event{At: now(), Event: "endpoints", List: list})
	}
	subscriber.AddListener(tell)
	tell()
	select {}
}
