package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signalbox "signalbox.example/api/signalbox/v1"
)

// resumeMax limits how long a watch that was interrupted tries to resume without receiving a message.
const resumeMax = 30 * time.Second

// errTokenRefused says that the service cannot go on from the resume token, and sends a snapshot instead.
var errTokenRefused = errors.New("the service cannot go on from the resume token")

// watchOf returns the request of a watch of one job.
func watchOf(id string) *signalbox.WatchRequest {
	return &signalbox.WatchRequest{Jobs: []*signalbox.WatchedJob{{JobId: id}}}
}

// watch prints what happens to a job until it is final. When the connection is lost it resumes after the last event
// that it has, so that every event is printed once.
func watch(jobs signalbox.JobServiceClient, request *signalbox.WatchRequest) error {
	var delays backoff
	giveUpAt := time.Now().Add(resumeMax)
	for {
		hasReceived, err := readWatch(jobs, request)
		if err == io.EOF {
			return showEnd(jobs, request.GetJobs()[0].GetJobId())
		}
		if err == errTokenRefused {
			// It can go on after the sequence of the last event.
			request.ResumeToken = ""
			continue
		}
		if hasReceived {
			delays = backoff{}
			giveUpAt = time.Now().Add(resumeMax)
		}
		delay := delays.next(err)
		if !isWorthRetrying(err) || time.Now().Add(delay).After(giveUpAt) {
			return err
		}
		show(line{"event": "reconnect", "code": codeName(err)})
		time.Sleep(delay)
	}
}

// readWatch reads one stream to its end, and keeps in the request how far it came: the next stream begins there. It
// returns whether there was a message, and why the stream ended: io.EOF means that the job is final, and
// errTokenRefused that the stream was left.
func readWatch(jobs signalbox.JobServiceClient, request *signalbox.WatchRequest) (hasReceived bool, err error) {
	watched := request.GetJobs()[0]
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stream, err := jobs.Watch(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return hasReceived, err
		}
		hasReceived = true
		if token := message.GetResumeToken(); token != "" {
			request.ResumeToken = token
		}
		switch event := message.GetEvent().(type) {
		case *signalbox.WatchResponse_Opened:
			if request.GetResumeToken() != "" && !event.Opened.GetResumed() {
				return true, errTokenRefused
			}
		case *signalbox.WatchResponse_Snapshot:
			job := event.Snapshot.GetJob()
			if sequence := resumeSequence(job); sequence > watched.AfterSequence {
				watched.AfterSequence = sequence
			}
			show(line{"event": "snapshot", "state": stateName(job.GetState()), "sequence": job.GetSequence()})
		case *signalbox.WatchResponse_Lifecycle:
			change := event.Lifecycle
			if change.GetSequence() <= watched.AfterSequence {
				// A stream that resumes by a token may repeat the latest events.
				continue
			}
			watched.AfterSequence = change.GetSequence()
			show(line{
				"event":    "lifecycle",
				"type":     typeName(change.GetType()),
				"state":    stateName(change.GetState()),
				"sequence": change.GetSequence(),
			})
		case *signalbox.WatchResponse_Progress:
			show(line{
				"event":    "progress",
				"fraction": fractionOf(event.Progress.GetProgress()),
				"attempt":  event.Progress.GetAttempt(),
			})
		default:
			// Messages that need no line, and messages of a newer service.
		}
	}
}

// resumeSequence is the sequence after which a watch resumes that has received only this snapshot. The snapshot of a
// final job is followed by the job's last event, which has the same sequence and is still to come.
func resumeSequence(job *signalbox.Job) int64 {
	switch job.GetState() {
	case signalbox.JobState_JOB_STATE_SUCCEEDED, signalbox.JobState_JOB_STATE_FAILED,
		signalbox.JobState_JOB_STATE_CANCELLED:
		return job.GetSequence() - 1
	}
	return job.GetSequence()
}

// fractionOf returns nil if the fraction is not known.
func fractionOf(progress *signalbox.Progress) *float64 {
	if progress == nil {
		return nil
	}
	return progress.Fraction
}

// showEnd prints the state of a final job, and its result. An event has the result too, but not a large one.
func showEnd(jobs signalbox.JobServiceClient, id string) error {
	var response *signalbox.GetJobResponse
	err := repeat(func(ctx context.Context) (err error) {
		response, err = jobs.GetJob(ctx, &signalbox.GetJobRequest{JobId: id})
		return err
	})
	if err != nil {
		return fmt.Errorf("read the result: %w", err)
	}
	job := response.GetJob()
	show(line{"event": "end", "state": stateName(job.GetState()), "result": string(job.GetResult().GetData())})
	return nil
}

// isWorthRetrying tells whether a watch that ended with this error can end otherwise.
func isWorthRetrying(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.OutOfRange, codes.FailedPrecondition,
		codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return false
	}
	return true
}

func stateName(state signalbox.JobState) string {
	return strings.TrimPrefix(valueName(signalbox.JobState_name, int32(state)), "JOB_STATE_")
}

func typeName(eventType signalbox.JobEventType) string {
	return strings.TrimPrefix(valueName(signalbox.JobEventType_name, int32(eventType)), "JOB_EVENT_TYPE_")
}

// valueName returns the name of an enum's value. A value that a newer service has added counts as UNSPECIFIED.
func valueName(names map[int32]string, value int32) string {
	if name, ok := names[value]; ok {
		return name
	}
	return names[0]
}

// codeName is the name of a status as gRPC's documents write it: UNAVAILABLE.
func codeName(err error) string {
	return code.Code(status.Code(err)).String()
}
