// Enqueues jobs, watches them to their end, and cancels them: a client of Signalbox with grpc-go.
//
//	example run KIND USER PAYLOAD           enqueue a job and watch it to its end
//	example watch JOB_ID [AFTER_SEQUENCE]   watch a job that exists
//	example cancel JOB_ID [NOTE]            cancel a job
//	example invalid                         show what the service says of an invalid request
//	example leave COUNT KIND USER PAYLOAD   leave watches before their end
//
// The environment has SIGNALBOX_ADDRESS (host:port), SIGNALBOX_CA (a PEM file of authorities; with it the connection
// uses TLS) and SIGNALBOX_TOKEN. Each line of the output is a JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signalbox "signalbox.example/api/signalbox/v1"
)

var errUsage = errors.New("usage: example run|watch|cancel|invalid|leave …; main.go begins with the arguments of each")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	conn, err := connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	jobs := signalbox.NewJobServiceClient(conn)

	switch command, args := args[0], args[1:]; {
	case command == "run" && len(args) == 3:
		job, err := enqueue(jobs, args[0], args[1], args[2])
		if err != nil {
			return err
		}
		return watch(jobs, watchOf(job.GetId()))
	case command == "watch" && (len(args) == 1 || len(args) == 2):
		request := watchOf(args[0])
		if len(args) == 2 {
			if _, err := fmt.Sscan(args[1], &request.Jobs[0].AfterSequence); err != nil {
				return fmt.Errorf("AFTER_SEQUENCE: %w", err)
			}
		}
		return watch(jobs, request)
	case command == "cancel" && (len(args) == 1 || len(args) == 2):
		job, err := cancel(jobs, args[0], strings.Join(args[1:], ""))
		if err != nil {
			return err
		}
		show(line{"state": stateName(job.GetState())})
		return nil
	case command == "invalid" && len(args) == 0:
		return invalid(jobs)
	case command == "leave" && len(args) == 4:
		count, err := strconv.Atoi(args[0])
		if err != nil {
			return fmt.Errorf("COUNT: %w", err)
		}
		return leave(jobs, count, args[1], args[2], args[3])
	}
	return errUsage
}

// enqueue adds a job. Its id is chosen here, so that repeating the call does not add another one.
func enqueue(jobs signalbox.JobServiceClient, kind, user, payload string) (*signalbox.Job, error) {
	request := &signalbox.EnqueueRequest{Job: &signalbox.JobSpec{
		JobId:   uuid.NewString(),
		Kind:    kind,
		UserId:  user,
		Payload: []byte(payload),
	}}
	var response *signalbox.EnqueueResponse
	err := repeat(func(ctx context.Context) (err error) {
		response, err = jobs.Enqueue(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	show(line{"job_id": response.GetJob().GetId(), "created": response.GetCreated()})
	return response.GetJob(), nil
}

// cancel asks the service to end a job. One that runs becomes CANCELLED when its handler has ended.
func cancel(jobs signalbox.JobServiceClient, id, note string) (*signalbox.Job, error) {
	var response *signalbox.CancelResponse
	err := repeat(func(ctx context.Context) (err error) {
		response, err = jobs.Cancel(ctx, &signalbox.CancelRequest{JobId: id, Note: note})
		return err
	})
	return response.GetJob(), err
}

// invalid sends a request with two mistakes, which the service describes in the details of the status.
func invalid(jobs signalbox.JobServiceClient) error {
	_, err := enqueue(jobs, "", strings.Repeat("u", 300), "{}")
	if err == nil {
		return errors.New("the service has accepted an invalid job")
	}
	if status.Code(err) != codes.InvalidArgument {
		return err
	}
	violations := []line{}
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range request.GetFieldViolations() {
				violations = append(violations, line{
					"field":       violation.GetField(),
					"description": violation.GetDescription(),
				})
			}
		}
	}
	show(line{"code": codeName(err), "violations": violations})
	return nil
}

// leave opens watches of one job, and cancels each after its first message. A watch that is no longer read must be
// cancelled, or it stays open on the service.
func leave(jobs signalbox.JobServiceClient, count int, kind, user, payload string) error {
	job, err := enqueue(jobs, kind, user, payload)
	if err != nil {
		return err
	}
	request := watchOf(job.GetId())
	streams := make([]signalbox.JobService_WatchClient, count)
	stops := make([]context.CancelFunc, count)
	for i := range streams {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		stops[i] = stop
		if streams[i], err = jobs.Watch(ctx, request); err != nil {
			return err
		}
	}
	for i, stream := range streams {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		stops[i]()
	}
	show(line{"left": count})
	_, err = cancel(jobs, job.GetId(), "")
	return err
}

// line is a line of the output.
type line map[string]any

func show(fields line) {
	// Standard output is not buffered.
	if err := json.NewEncoder(os.Stdout).Encode(fields); err != nil {
		panic(err)
	}
}
