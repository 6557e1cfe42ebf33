package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// work is how long a response takes.
const work = 5 * time.Millisecond

const ask = "/interop.Desk/Ask"

// answerer responds with the address of its server.
type answerer interface {
	Ask(ctx context.Context, question *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
}

type desk struct{ address string }

func (d desk) Ask(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	select {
	case <-time.After(work):
		return wrapperspb.String(d.address), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// deskService is the description that protoc would generate. Its messages are part of protobuf.
var deskService = grpc.ServiceDesc{
	ServiceName: "interop.Desk",
	HandlerType: (*answerer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Ask",
		Handler: func(
			server any,
			ctx context.Context,
			decode func(any) error,
			intercept grpc.UnaryServerInterceptor,
		) (any, error) {
			question := new(wrapperspb.StringValue)
			if err := decode(question); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, question any) (any, error) {
				return server.(answerer).Ask(ctx, question.(*wrapperspb.StringValue))
			}
			if intercept == nil {
				return handle(ctx, question)
			}
			info := &grpc.UnaryServerInfo{Server: server, FullMethod: ask}
			return intercept(ctx, question, info, handle)
		},
	}},
}

// caller makes one call. It returns the address of the server, if the response has one.
type caller func(ctx context.Context) (address string, err error)

// askDesk calls Ask.
func askDesk(connection grpc.ClientConnInterface) caller {
	return func(ctx context.Context) (string, error) {
		answer := new(wrapperspb.StringValue)
		err := connection.Invoke(ctx, ask, wrapperspb.String("who?"), answer)
		return answer.Value, err
	}
}

// callOpenLoop makes a call every interval, even if earlier ones have not ended. It never returns.
func callOpenLoop(call caller) {
	const interval = 5 * time.Millisecond
	for next := time.Now(); ; next = next.Add(interval) {
		time.Sleep(time.Until(next))
		go callOnce(call)
	}
}

func callOnce(call caller) {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	address, err := call(ctx)
	ended := event{At: start.UnixMicro(), Event: "call", Micros: time.Since(start).Microseconds()}
	if err != nil {
		ended.Error = err.Error()
	} else {
		ended.Address = address
	}
	emit(ended)
}
