import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;
import signalbox.v1.CancelRequest;
import signalbox.v1.EnqueueRequest;
import signalbox.v1.EnqueueResponse;
import signalbox.v1.GetJobRequest;
import signalbox.v1.Job;
import signalbox.v1.JobEventType;
import signalbox.v1.JobServiceGrpc;
import signalbox.v1.JobServiceGrpc.JobServiceBlockingStub;
import signalbox.v1.JobSpec;
import signalbox.v1.JobState;
import signalbox.v1.WatchRequest;
import signalbox.v1.WatchResponse;
import signalbox.v1.WatchedJob;

/**
 * A small client of Signalbox. It enqueues a job and watches it to the end, across lost connections
 * and restarts of the server, and prints a JSON object a line. README.md has the commands.
 */
public final class Example implements AutoCloseable {
  private static final String USAGE =
      "usage: example run KIND USER PAYLOAD\n"
          + "       example watch JOB_ID [AFTER_SEQUENCE]\n"
          + "       example cancel JOB_ID [NOTE]\n"
          + "       example invalid\n"
          + "       example leave COUNT KIND USER PAYLOAD";

  /** The time for a call with one response, with all its tries. */
  private static final long CALL_MAX_S = 10;

  /** For how long a broken watch tries to resume without receiving a message. */
  private static final long RESUME_MAX_S = 30;

  /** A watch that ended with one of these would end the same way again. */
  private static final Set<Status.Code> PERMANENT =
      EnumSet.of(
          Status.Code.FAILED_PRECONDITION,
          Status.Code.INVALID_ARGUMENT,
          Status.Code.NOT_FOUND,
          Status.Code.OUT_OF_RANGE,
          Status.Code.PERMISSION_DENIED,
          Status.Code.UNAUTHENTICATED,
          Status.Code.UNIMPLEMENTED);

  private static final Set<JobState> FINAL =
      EnumSet.of(
          JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED);

  private final ManagedChannel channel;
  private final JobServiceBlockingStub jobs;
  private final Gson gson = new Gson();
  private final PrintStream out =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  public static void main(String[] arguments) {
    int status = 1;
    try (Example example = new Example(System.getenv())) {
      example.execute(arguments);
      status = 0;
    } catch (StatusRuntimeException error) {
      System.err.println("example: the call failed: " + error.getMessage());
      for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
        System.err.println("  because of " + cause);
      }
    } catch (IllegalArgumentException | IllegalStateException | IOException error) {
      System.err.println("example: " + error.getMessage());
    } catch (InterruptedException error) {
      System.err.println("example: interrupted");
    }
    System.exit(status);
  }

  /** One channel, which connects at the first call, and again whenever the connection is lost. */
  private Example(Map<String, String> environment) throws IOException {
    // A variable that is empty counts as unset.
    String address = environment.getOrDefault("SIGNALBOX_ADDRESS", "");
    String authorities = environment.getOrDefault("SIGNALBOX_CA", "");
    String token = environment.getOrDefault("SIGNALBOX_TOKEN", "");
    ChannelCredentials credentials =
        authorities.isEmpty()
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(address.isEmpty() ? "localhost:7600" : address, credentials)
            // A connection that does not answer a PING is dead.
            .keepAliveTime(30, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS);
    if (!token.isEmpty()) {
      Metadata headers = new Metadata();
      headers.put(
          Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    channel = builder.build();
    jobs = JobServiceGrpc.newBlockingStub(channel);
  }

  @Override
  public void close() throws InterruptedException {
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private void execute(String[] arguments) throws InterruptedException, IOException {
    String command = arguments.length == 0 ? "" : arguments[0];
    int count = arguments.length - 1;
    if (command.equals("run") && count == 3) {
      run(arguments[1], arguments[2], arguments[3]);
    } else if (command.equals("watch") && (count == 1 || count == 2)) {
      watch(watchRequest(arguments[1], count == 1 ? 0 : Long.parseLong(arguments[2])));
    } else if (command.equals("cancel") && (count == 1 || count == 2)) {
      print("state", name(cancel(arguments[1], count == 1 ? "" : arguments[2]).getState()));
    } else if (command.equals("invalid") && count == 0) {
      invalid();
    } else if (command.equals("leave") && count == 4) {
      leave(Integer.parseInt(arguments[1]), arguments[2], arguments[3], arguments[4]);
    } else {
      throw new IllegalArgumentException(USAGE);
    }
  }

  private void run(String kind, String user, String payload)
      throws InterruptedException, IOException {
    EnqueueResponse response = enqueue(kind, user, payload);
    String jobId = response.getJob().getId();
    print("job_id", jobId, "created", response.getCreated());
    watch(watchRequest(jobId, 0));
  }

  /** Adds a job under an id of our own, so that a repeated call does not add another one. */
  private EnqueueResponse enqueue(String kind, String user, String payload)
      throws InterruptedException, IOException {
    JobSpec.Builder job =
        JobSpec.newBuilder()
            .setJobId(UUID.randomUUID().toString())
            .setKind(kind)
            .setUserId(user)
            .setPayload(ByteString.copyFromUtf8(payload));
    return call(
        JobServiceBlockingStub::enqueue, EnqueueRequest.newBuilder().setJob(job).build());
  }

  private Job cancel(String jobId, String note) throws InterruptedException, IOException {
    CancelRequest request = CancelRequest.newBuilder().setJobId(jobId).setNote(note).build();
    return call(JobServiceBlockingStub::cancel, request).getJob();
  }

  /** Makes a call that is safe to repeat, and repeats it while the service is unavailable. */
  private <Q, R> R call(BiFunction<JobServiceBlockingStub, Q, R> method, Q request)
      throws InterruptedException, IOException {
    Deadline deadline = Deadline.after(CALL_MAX_S, TimeUnit.SECONDS);
    Backoff backoff = new Backoff();
    while (true) {
      try {
        return method.apply(jobs.withDeadline(deadline), request);
      } catch (StatusRuntimeException error) {
        long delay = backoff.next(error);
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE
            || deadline.timeRemaining(TimeUnit.MILLISECONDS) < delay) {
          throw error;
        }
        pause(delay);
      }
    }
  }

  /** Waits, and then lets the channel connect at once: its own delays grow up to two minutes. */
  private void pause(long delayMs) throws InterruptedException {
    Thread.sleep(delayMs);
    channel.resetConnectBackoff();
  }

  /**
   * Prints what happens to a job until it is final. When the stream breaks, another one resumes
   * after the last event that was printed, so that no event is missed or repeated. The request has
   * how far the watch came.
   */
  private void watch(WatchRequest.Builder request) throws InterruptedException, IOException {
    Backoff backoff = new Backoff();
    Deadline giveUp = null;
    connection:
    while (true) {
      // To leave the block cancels the stream, unless it has ended.
      try (Context.CancellableContext context = Context.current().withCancellation()) {
        Iterator<WatchResponse> messages = openWatch(context, request.build());
        while (messages.hasNext()) {
          WatchResponse message = messages.next();
          boolean beginsAnew = message.hasOpened() && !message.getOpened().getResumed();
          if (beginsAnew && !request.getResumeToken().isEmpty()) {
            // The service cannot go on from the token, and sends a snapshot. It can go on after a
            // sequence.
            request.clearResumeToken();
            continue connection;
          }
          show(message, request.getJobsBuilder(0));
          if (!message.getResumeToken().isEmpty()) {
            request.setResumeToken(message.getResumeToken());
          }
          backoff = new Backoff();
          giveUp = null;
        }
        break;
      } catch (StatusRuntimeException error) {
        if (giveUp == null) {
          giveUp = Deadline.after(RESUME_MAX_S, TimeUnit.SECONDS);
        }
        Status.Code code = error.getStatus().getCode();
        long delay = backoff.next(error);
        if (PERMANENT.contains(code) || giveUp.timeRemaining(TimeUnit.MILLISECONDS) < delay) {
          throw error;
        }
        print("event", "reconnect", "code", code.name());
        pause(delay);
      }
    }
    // An event has a result of at most 64 KiB; GetJob returns any.
    String jobId = request.getJobs(0).getJobId();
    GetJobRequest get = GetJobRequest.newBuilder().setJobId(jobId).build();
    Job job = call(JobServiceBlockingStub::getJob, get).getJob();
    String result = job.getResult().getData().toStringUtf8();
    print("event", "end", "state", name(job.getState()), "result", result);
  }

  /** Starts a watch, which ends when the context is cancelled. */
  private Iterator<WatchResponse> openWatch(Context context, WatchRequest request) {
    Context before = context.attach();
    try {
      return jobs.watch(request);
    } finally {
      context.detach(before);
    }
  }

  private static WatchRequest.Builder watchRequest(String jobId, long afterSequence) {
    WatchedJob.Builder job =
        WatchedJob.newBuilder().setJobId(jobId).setAfterSequence(afterSequence);
    return WatchRequest.newBuilder().addJobs(job);
  }

  /** Prints a message of a watch, and keeps in `watched` how far the watch came. */
  private void show(WatchResponse message, WatchedJob.Builder watched) {
    switch (message.getEventCase()) {
      case SNAPSHOT:
        var job = message.getSnapshot().getJob();
        print("event", "snapshot", "state", name(job.getState()), "sequence", job.getSequence());
        // The last event of a job that is final already follows its snapshot.
        long sequence = job.getSequence() - (FINAL.contains(job.getState()) ? 1 : 0);
        watched.setAfterSequence(Math.max(sequence, watched.getAfterSequence()));
        break;
      case LIFECYCLE:
        var event = message.getLifecycle();
        if (event.getSequence() <= watched.getAfterSequence()) {
          // A stream that resumes by a token may repeat the latest events.
          break;
        }
        watched.setAfterSequence(event.getSequence());
        print(
            "event", "lifecycle",
            "type", name(event.getType()),
            "state", name(event.getState()),
            "sequence", event.getSequence());
        break;
      case PROGRESS:
        var progress = message.getProgress().getProgress();
        print(
            "event", "progress",
            // Null if it is not known.
            "fraction", progress.hasFraction() ? (Double) progress.getFraction() : null,
            "attempt", message.getProgress().getAttempt());
        break;
      default:
        // A message that needs no line, or one of a newer service.
        break;
    }
  }

  /** Shows how an invalid request is answered: with a violation for each field that is wrong. */
  private void invalid() throws InterruptedException, IOException {
    try {
      enqueue("", "u".repeat(300), "");
      throw new IllegalStateException("the service has accepted an invalid job");
    } catch (StatusRuntimeException error) {
      Status.Code code = error.getStatus().getCode();
      if (code != Status.Code.INVALID_ARGUMENT) {
        throw error;
      }
      List<Map<String, Object>> violations = new ArrayList<>();
      for (BadRequest detail : details(error, BadRequest.class)) {
        for (var violation : detail.getFieldViolationsList()) {
          violations.add(
              object("field", violation.getField(), "description", violation.getDescription()));
        }
      }
      print("code", code.name(), "violations", violations);
    }
  }

  /**
   * Opens many watches on the one connection, and cancels each after its first message. A watch
   * that is no longer read must be cancelled, or it stays open on the service.
   */
  private void leave(int count, String kind, String user, String payload)
      throws InterruptedException, IOException {
    String jobId = enqueue(kind, user, payload).getJob().getId();
    List<Context.CancellableContext> contexts = new ArrayList<>();
    List<Iterator<WatchResponse>> watches = new ArrayList<>();
    for (int index = 0; index < count; index++) {
      Context.CancellableContext context = Context.current().withCancellation();
      contexts.add(context);
      watches.add(openWatch(context, watchRequest(jobId, 0).build()));
    }
    for (int index = 0; index < count; index++) {
      watches.get(index).next();
      contexts.get(index).cancel(null);
    }
    print("left", count);
    cancel(jobId, "");
  }

  /** Delays between tries, which double from 0.1 s to 2 s. */
  private static final class Backoff {
    private long nominalMs = 100;

    /**
     * Milliseconds: at random from half of the nominal delay to all of it, so that the clients of a
     * server that restarts do not all come back at once; or the longer delay that the service asks
     * for.
     */
    long next(StatusRuntimeException error) throws InvalidProtocolBufferException {
      long delayMs = nominalMs / 2 + ThreadLocalRandom.current().nextLong(nominalMs / 2 + 1);
      nominalMs = Math.min(2 * nominalMs, 2_000);
      for (RetryInfo detail : details(error, RetryInfo.class)) {
        var asked = detail.getRetryDelay();
        delayMs = Math.max(delayMs, asked.getSeconds() * 1_000 + asked.getNanos() / 1_000_000);
      }
      return delayMs;
    }
  }

  /** The details of a type that the service has sent with an error. */
  private static <T extends Message> List<T> details(StatusRuntimeException error, Class<T> type)
      throws InvalidProtocolBufferException {
    List<T> found = new ArrayList<>();
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(type)) {
        found.add(detail.unpack(type));
      }
    }
    return found;
  }

  /** The name without its prefix. A state that a newer service has added counts as UNSPECIFIED. */
  private static String name(JobState state) {
    boolean isKnown = state != JobState.UNRECOGNIZED;
    return isKnown ? state.name().replaceFirst("^JOB_STATE_", "") : "UNSPECIFIED";
  }

  /** The name without its prefix. A type that a newer service has added counts as UNSPECIFIED. */
  private static String name(JobEventType type) {
    boolean isKnown = type != JobEventType.UNRECOGNIZED;
    return isKnown ? type.name().replaceFirst("^JOB_EVENT_TYPE_", "") : "UNSPECIFIED";
  }

  private void print(Object... namesAndValues) {
    out.println(gson.toJson(object(namesAndValues)));
  }

  private static Map<String, Object> object(Object... namesAndValues) {
    Map<String, Object> object = new LinkedHashMap<>();
    for (int index = 0; index < namesAndValues.length; index += 2) {
      object.put((String) namesAndValues[index], namesAndValues[index + 1]);
    }
    return object;
  }
}
