package main

import (
	"context"
	"errors"
	"math/rand"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	connectionbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// callTimeout is the deadline of a unary call, including its repetitions.
const callTimeout = 10 * time.Second

// connect prepares a connection as the environment says. It is opened by the first call, and again when it is lost.
func connect() (*grpc.ClientConn, error) {
	address, ca, token := os.Getenv("SIGNALBOX_ADDRESS"), os.Getenv("SIGNALBOX_CA"), os.Getenv("SIGNALBOX_TOKEN")
	if address == "" {
		return nil, errors.New("SIGNALBOX_ADDRESS is not set: host:port of the server")
	}
	options := []grpc.DialOption{
		// By default gRPC waits up to two minutes before it tries to connect again.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: connectionbackoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		// A connection that does not answer a ping is dead.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if ca == "" {
		options = append(options, grpc.WithInsecure())
	} else {
		authorities, err := credentials.NewClientTLSFromFile(ca, "")
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(authorities))
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{token, ca != ""}))
	}
	return grpc.Dial(address, options...)
}

// bearer sends a token with each call.
type bearer struct {
	token  string
	hasTLS bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity makes gRPC refuse to send the token without TLS. Without SIGNALBOX_CA it is sent all the
// same, which is right only for a server on this machine.
func (b bearer) RequireTransportSecurity() bool {
	return b.hasTLS
}

// repeat makes a call again while it ends with UNAVAILABLE, for at most callTimeout. The call must be idempotent.
func repeat(call func(context.Context) error) error {
	ctx, stop := context.WithTimeout(context.Background(), callTimeout)
	defer stop()
	var delays backoff
	for {
		err := call(ctx)
		if status.Code(err) != codes.Unavailable {
			return err
		}
		delay := delays.next(err)
		if deadline, _ := ctx.Deadline(); time.Now().Add(delay).After(deadline) {
			return err
		}
		time.Sleep(delay)
	}
}

// jitter is seeded because before Go 1.20 the generator of the package is not: all processes would wait equally long.
var jitter = rand.New(rand.NewSource(time.Now().UnixNano()))

// backoff is a sequence of delays between tries, which doubles from 0.1 s to 2 s. The zero value is ready for use.
type backoff struct {
	nominal time.Duration
}

// next returns a delay at random from half of its nominal length to all of it, or the longer one that the service asks
// for.
func (b *backoff) next(err error) time.Duration {
	if b.nominal *= 2; b.nominal == 0 {
		b.nominal = 100 * time.Millisecond
	} else if b.nominal > 2*time.Second {
		b.nominal = 2 * time.Second
	}
	delay := b.nominal/2 + time.Duration(jitter.Int63n(int64(b.nominal/2)))
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			if asked := retry.GetRetryDelay().AsDuration(); asked > delay {
				delay = asked
			}
		}
	}
	return delay
}
