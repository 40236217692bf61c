package signalbox.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Reads and changes jobs, for services that need work to be done.
 * An invalid request gets INVALID_ARGUMENT with a google.rpc.BadRequest that
 * names each invalid field. A job that failed is data, and never makes a call
 * fail. A job that does not exist, or has been removed, gets NOT_FOUND with a
 * google.rpc.ResourceInfo that names it (in Watch the first such job). While
 * the database cannot be reached, calls get UNAVAILABLE with
 * google.rpc.RetryInfo.
 * A request with a field that this server does not know gets INVALID_ARGUMENT
 * too, and has no effect: a newer client does not get something else than it
 * asked for. BadRequest names up to 20 such fields by the path of the message
 * and the field's number ("jobs[3].&lt;field 30&gt;"; an entry of a map by its
 * position, "job.labels[0].&lt;field 3&gt;"). Servers are therefore upgraded before
 * clients. Clients ignore unknown fields of responses.
 * A caller may act for all users or for some. Jobs of other users do not exist
 * for the caller: lists and watches omit them, and a call that names one gets
 * NOT_FOUND. A call that names such a user gets PERMISSION_DENIED.
 * A call that exceeds a quota of the user gets RESOURCE_EXHAUSTED with
 * google.rpc.QuotaFailure and google.rpc.RetryInfo. If the latter is missing,
 * the call will not succeed later either.
 * No response of a method has more than 4 MiB, which is what gRPC clients
 * accept unless they are configured otherwise.
 * </pre>
 */
@javax.annotation.Generated(
    value = "by gRPC proto compiler",
    comments = "Source: signalbox/v1/job_service.proto")
@io.grpc.stub.annotations.GrpcGenerated
public final class JobServiceGrpc {

  private JobServiceGrpc() {}

  public static final String SERVICE_NAME = "signalbox.v1.JobService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<signalbox.v1.EnqueueRequest,
      signalbox.v1.EnqueueResponse> getEnqueueMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Enqueue",
      requestType = signalbox.v1.EnqueueRequest.class,
      responseType = signalbox.v1.EnqueueResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.EnqueueRequest,
      signalbox.v1.EnqueueResponse> getEnqueueMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.EnqueueRequest, signalbox.v1.EnqueueResponse> getEnqueueMethod;
    if ((getEnqueueMethod = JobServiceGrpc.getEnqueueMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getEnqueueMethod = JobServiceGrpc.getEnqueueMethod) == null) {
          JobServiceGrpc.getEnqueueMethod = getEnqueueMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.EnqueueRequest, signalbox.v1.EnqueueResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Enqueue"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.EnqueueRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.EnqueueResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("Enqueue"))
              .build();
        }
      }
    }
    return getEnqueueMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.EnqueueBatchRequest,
      signalbox.v1.EnqueueBatchResponse> getEnqueueBatchMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "EnqueueBatch",
      requestType = signalbox.v1.EnqueueBatchRequest.class,
      responseType = signalbox.v1.EnqueueBatchResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.EnqueueBatchRequest,
      signalbox.v1.EnqueueBatchResponse> getEnqueueBatchMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.EnqueueBatchRequest, signalbox.v1.EnqueueBatchResponse> getEnqueueBatchMethod;
    if ((getEnqueueBatchMethod = JobServiceGrpc.getEnqueueBatchMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getEnqueueBatchMethod = JobServiceGrpc.getEnqueueBatchMethod) == null) {
          JobServiceGrpc.getEnqueueBatchMethod = getEnqueueBatchMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.EnqueueBatchRequest, signalbox.v1.EnqueueBatchResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "EnqueueBatch"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.EnqueueBatchRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.EnqueueBatchResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("EnqueueBatch"))
              .build();
        }
      }
    }
    return getEnqueueBatchMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.GetJobRequest,
      signalbox.v1.GetJobResponse> getGetJobMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetJob",
      requestType = signalbox.v1.GetJobRequest.class,
      responseType = signalbox.v1.GetJobResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.GetJobRequest,
      signalbox.v1.GetJobResponse> getGetJobMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.GetJobRequest, signalbox.v1.GetJobResponse> getGetJobMethod;
    if ((getGetJobMethod = JobServiceGrpc.getGetJobMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getGetJobMethod = JobServiceGrpc.getGetJobMethod) == null) {
          JobServiceGrpc.getGetJobMethod = getGetJobMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.GetJobRequest, signalbox.v1.GetJobResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetJob"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.GetJobRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.GetJobResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("GetJob"))
              .build();
        }
      }
    }
    return getGetJobMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.ListJobsRequest,
      signalbox.v1.ListJobsResponse> getListJobsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListJobs",
      requestType = signalbox.v1.ListJobsRequest.class,
      responseType = signalbox.v1.ListJobsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.ListJobsRequest,
      signalbox.v1.ListJobsResponse> getListJobsMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.ListJobsRequest, signalbox.v1.ListJobsResponse> getListJobsMethod;
    if ((getListJobsMethod = JobServiceGrpc.getListJobsMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getListJobsMethod = JobServiceGrpc.getListJobsMethod) == null) {
          JobServiceGrpc.getListJobsMethod = getListJobsMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.ListJobsRequest, signalbox.v1.ListJobsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListJobs"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListJobsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListJobsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("ListJobs"))
              .build();
        }
      }
    }
    return getListJobsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.ListAttemptsRequest,
      signalbox.v1.ListAttemptsResponse> getListAttemptsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListAttempts",
      requestType = signalbox.v1.ListAttemptsRequest.class,
      responseType = signalbox.v1.ListAttemptsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.ListAttemptsRequest,
      signalbox.v1.ListAttemptsResponse> getListAttemptsMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.ListAttemptsRequest, signalbox.v1.ListAttemptsResponse> getListAttemptsMethod;
    if ((getListAttemptsMethod = JobServiceGrpc.getListAttemptsMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getListAttemptsMethod = JobServiceGrpc.getListAttemptsMethod) == null) {
          JobServiceGrpc.getListAttemptsMethod = getListAttemptsMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.ListAttemptsRequest, signalbox.v1.ListAttemptsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListAttempts"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListAttemptsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListAttemptsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("ListAttempts"))
              .build();
        }
      }
    }
    return getListAttemptsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.ListLogLinesRequest,
      signalbox.v1.ListLogLinesResponse> getListLogLinesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListLogLines",
      requestType = signalbox.v1.ListLogLinesRequest.class,
      responseType = signalbox.v1.ListLogLinesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.ListLogLinesRequest,
      signalbox.v1.ListLogLinesResponse> getListLogLinesMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.ListLogLinesRequest, signalbox.v1.ListLogLinesResponse> getListLogLinesMethod;
    if ((getListLogLinesMethod = JobServiceGrpc.getListLogLinesMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getListLogLinesMethod = JobServiceGrpc.getListLogLinesMethod) == null) {
          JobServiceGrpc.getListLogLinesMethod = getListLogLinesMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.ListLogLinesRequest, signalbox.v1.ListLogLinesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListLogLines"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListLogLinesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.ListLogLinesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("ListLogLines"))
              .build();
        }
      }
    }
    return getListLogLinesMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.WatchRequest,
      signalbox.v1.WatchResponse> getWatchMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Watch",
      requestType = signalbox.v1.WatchRequest.class,
      responseType = signalbox.v1.WatchResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<signalbox.v1.WatchRequest,
      signalbox.v1.WatchResponse> getWatchMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.WatchRequest, signalbox.v1.WatchResponse> getWatchMethod;
    if ((getWatchMethod = JobServiceGrpc.getWatchMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getWatchMethod = JobServiceGrpc.getWatchMethod) == null) {
          JobServiceGrpc.getWatchMethod = getWatchMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.WatchRequest, signalbox.v1.WatchResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Watch"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.WatchRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.WatchResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("Watch"))
              .build();
        }
      }
    }
    return getWatchMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.CancelRequest,
      signalbox.v1.CancelResponse> getCancelMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Cancel",
      requestType = signalbox.v1.CancelRequest.class,
      responseType = signalbox.v1.CancelResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.CancelRequest,
      signalbox.v1.CancelResponse> getCancelMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.CancelRequest, signalbox.v1.CancelResponse> getCancelMethod;
    if ((getCancelMethod = JobServiceGrpc.getCancelMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getCancelMethod = JobServiceGrpc.getCancelMethod) == null) {
          JobServiceGrpc.getCancelMethod = getCancelMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.CancelRequest, signalbox.v1.CancelResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Cancel"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.CancelRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.CancelResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("Cancel"))
              .build();
        }
      }
    }
    return getCancelMethod;
  }

  private static volatile io.grpc.MethodDescriptor<signalbox.v1.RetryRequest,
      signalbox.v1.RetryResponse> getRetryMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Retry",
      requestType = signalbox.v1.RetryRequest.class,
      responseType = signalbox.v1.RetryResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<signalbox.v1.RetryRequest,
      signalbox.v1.RetryResponse> getRetryMethod() {
    io.grpc.MethodDescriptor<signalbox.v1.RetryRequest, signalbox.v1.RetryResponse> getRetryMethod;
    if ((getRetryMethod = JobServiceGrpc.getRetryMethod) == null) {
      synchronized (JobServiceGrpc.class) {
        if ((getRetryMethod = JobServiceGrpc.getRetryMethod) == null) {
          JobServiceGrpc.getRetryMethod = getRetryMethod =
              io.grpc.MethodDescriptor.<signalbox.v1.RetryRequest, signalbox.v1.RetryResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Retry"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.RetryRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  signalbox.v1.RetryResponse.getDefaultInstance()))
              .setSchemaDescriptor(new JobServiceMethodDescriptorSupplier("Retry"))
              .build();
        }
      }
    }
    return getRetryMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static JobServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<JobServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<JobServiceStub>() {
        @java.lang.Override
        public JobServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new JobServiceStub(channel, callOptions);
        }
      };
    return JobServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static JobServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<JobServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<JobServiceBlockingStub>() {
        @java.lang.Override
        public JobServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new JobServiceBlockingStub(channel, callOptions);
        }
      };
    return JobServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static JobServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<JobServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<JobServiceFutureStub>() {
        @java.lang.Override
        public JobServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new JobServiceFutureStub(channel, callOptions);
        }
      };
    return JobServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Reads and changes jobs, for services that need work to be done.
   * An invalid request gets INVALID_ARGUMENT with a google.rpc.BadRequest that
   * names each invalid field. A job that failed is data, and never makes a call
   * fail. A job that does not exist, or has been removed, gets NOT_FOUND with a
   * google.rpc.ResourceInfo that names it (in Watch the first such job). While
   * the database cannot be reached, calls get UNAVAILABLE with
   * google.rpc.RetryInfo.
   * A request with a field that this server does not know gets INVALID_ARGUMENT
   * too, and has no effect: a newer client does not get something else than it
   * asked for. BadRequest names up to 20 such fields by the path of the message
   * and the field's number ("jobs[3].&lt;field 30&gt;"; an entry of a map by its
   * position, "job.labels[0].&lt;field 3&gt;"). Servers are therefore upgraded before
   * clients. Clients ignore unknown fields of responses.
   * A caller may act for all users or for some. Jobs of other users do not exist
   * for the caller: lists and watches omit them, and a call that names one gets
   * NOT_FOUND. A call that names such a user gets PERMISSION_DENIED.
   * A call that exceeds a quota of the user gets RESOURCE_EXHAUSTED with
   * google.rpc.QuotaFailure and google.rpc.RetryInfo. If the latter is missing,
   * the call will not succeed later either.
   * No response of a method has more than 4 MiB, which is what gRPC clients
   * accept unless they are configured otherwise.
   * </pre>
   */
  public static abstract class JobServiceImplBase implements io.grpc.BindableService {

    /**
     * <pre>
     * Enqueues one job. The response comes after the commit, so the job is
     * durable. The same job_id or idempotency_key with the same content returns
     * the first job; with other content the call gets ALREADY_EXISTS, with a
     * google.rpc.ResourceInfo that names the job. Each user has separate keys. An
     * id of another user's job gets ALREADY_EXISTS too. A
     * payload over 1 MiB gets RESOURCE_EXHAUSTED.
     * </pre>
     */
    public void enqueue(signalbox.v1.EnqueueRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.EnqueueResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getEnqueueMethod(), responseObserver);
    }

    /**
     * <pre>
     * Enqueues up to 10,000 jobs, all or none, in a request of up to 4 MiB. If an
     * item is invalid, the call fails, and the error names its index and field
     * ("jobs[3].kind").
     * </pre>
     */
    public void enqueueBatch(signalbox.v1.EnqueueBatchRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.EnqueueBatchResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getEnqueueBatchMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns one job with its last attempts, log, progress and result.
     * </pre>
     */
    public void getJob(signalbox.v1.GetJobRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.GetJobResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetJobMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the jobs that match the filter, newest first.
     * </pre>
     */
    public void listJobs(signalbox.v1.ListJobsRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListJobsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListJobsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the attempts of a job, oldest first.
     * </pre>
     */
    public void listAttempts(signalbox.v1.ListAttemptsRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListAttemptsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListAttemptsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns the log lines of a job that are kept, oldest first.
     * </pre>
     */
    public void listLogLines(signalbox.v1.ListLogLinesRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListLogLinesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListLogLinesMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams a snapshot of each job, then every lifecycle event of each job in
     * order, with a sequence that has no gaps, and the latest progress (earlier
     * progress may be omitted). The first message is `opened`. A watch of named
     * jobs ends with OK after the last final event; a watch with a filter stays
     * open. After any other end the client should connect again and resume, by
     * the latest resume_token or by after_sequence.
     * </pre>
     */
    public void watch(signalbox.v1.WatchRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.WatchResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchMethod(), responseObserver);
    }

    /**
     * <pre>
     * Cancels a job. A PENDING job becomes CANCELLED at once. The handler of a
     * RUNNING job is asked to stop; the job becomes CANCELLED when the handler has
     * ended, or after a grace time (watch the job to see it). A final job is
     * returned unchanged. The call is idempotent; the first note is kept.
     * </pre>
     */
    public void cancel(signalbox.v1.CancelRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.CancelResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelMethod(), responseObserver);
    }

    /**
     * <pre>
     * Returns a FAILED or CANCELLED job to PENDING with a new budget of attempts;
     * its history is kept. Jobs in other states get FAILED_PRECONDITION. The call
     * is safe to repeat with expected_sequence: a repeated call gets ABORTED.
     * </pre>
     */
    public void retry(signalbox.v1.RetryRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.RetryResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRetryMethod(), responseObserver);
    }

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
          .addMethod(
            getEnqueueMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.EnqueueRequest,
                signalbox.v1.EnqueueResponse>(
                  this, METHODID_ENQUEUE)))
          .addMethod(
            getEnqueueBatchMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.EnqueueBatchRequest,
                signalbox.v1.EnqueueBatchResponse>(
                  this, METHODID_ENQUEUE_BATCH)))
          .addMethod(
            getGetJobMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.GetJobRequest,
                signalbox.v1.GetJobResponse>(
                  this, METHODID_GET_JOB)))
          .addMethod(
            getListJobsMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.ListJobsRequest,
                signalbox.v1.ListJobsResponse>(
                  this, METHODID_LIST_JOBS)))
          .addMethod(
            getListAttemptsMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.ListAttemptsRequest,
                signalbox.v1.ListAttemptsResponse>(
                  this, METHODID_LIST_ATTEMPTS)))
          .addMethod(
            getListLogLinesMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.ListLogLinesRequest,
                signalbox.v1.ListLogLinesResponse>(
                  this, METHODID_LIST_LOG_LINES)))
          .addMethod(
            getWatchMethod(),
            io.grpc.stub.ServerCalls.asyncServerStreamingCall(
              new MethodHandlers<
                signalbox.v1.WatchRequest,
                signalbox.v1.WatchResponse>(
                  this, METHODID_WATCH)))
          .addMethod(
            getCancelMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.CancelRequest,
                signalbox.v1.CancelResponse>(
                  this, METHODID_CANCEL)))
          .addMethod(
            getRetryMethod(),
            io.grpc.stub.ServerCalls.asyncUnaryCall(
              new MethodHandlers<
                signalbox.v1.RetryRequest,
                signalbox.v1.RetryResponse>(
                  this, METHODID_RETRY)))
          .build();
    }
  }

  /**
   * <pre>
   * Reads and changes jobs, for services that need work to be done.
   * An invalid request gets INVALID_ARGUMENT with a google.rpc.BadRequest that
   * names each invalid field. A job that failed is data, and never makes a call
   * fail. A job that does not exist, or has been removed, gets NOT_FOUND with a
   * google.rpc.ResourceInfo that names it (in Watch the first such job). While
   * the database cannot be reached, calls get UNAVAILABLE with
   * google.rpc.RetryInfo.
   * A request with a field that this server does not know gets INVALID_ARGUMENT
   * too, and has no effect: a newer client does not get something else than it
   * asked for. BadRequest names up to 20 such fields by the path of the message
   * and the field's number ("jobs[3].&lt;field 30&gt;"; an entry of a map by its
   * position, "job.labels[0].&lt;field 3&gt;"). Servers are therefore upgraded before
   * clients. Clients ignore unknown fields of responses.
   * A caller may act for all users or for some. Jobs of other users do not exist
   * for the caller: lists and watches omit them, and a call that names one gets
   * NOT_FOUND. A call that names such a user gets PERMISSION_DENIED.
   * A call that exceeds a quota of the user gets RESOURCE_EXHAUSTED with
   * google.rpc.QuotaFailure and google.rpc.RetryInfo. If the latter is missing,
   * the call will not succeed later either.
   * No response of a method has more than 4 MiB, which is what gRPC clients
   * accept unless they are configured otherwise.
   * </pre>
   */
  public static final class JobServiceStub extends io.grpc.stub.AbstractAsyncStub<JobServiceStub> {
    private JobServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected JobServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new JobServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Enqueues one job. The response comes after the commit, so the job is
     * durable. The same job_id or idempotency_key with the same content returns
     * the first job; with other content the call gets ALREADY_EXISTS, with a
     * google.rpc.ResourceInfo that names the job. Each user has separate keys. An
     * id of another user's job gets ALREADY_EXISTS too. A
     * payload over 1 MiB gets RESOURCE_EXHAUSTED.
     * </pre>
     */
    public void enqueue(signalbox.v1.EnqueueRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.EnqueueResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getEnqueueMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Enqueues up to 10,000 jobs, all or none, in a request of up to 4 MiB. If an
     * item is invalid, the call fails, and the error names its index and field
     * ("jobs[3].kind").
     * </pre>
     */
    public void enqueueBatch(signalbox.v1.EnqueueBatchRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.EnqueueBatchResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getEnqueueBatchMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns one job with its last attempts, log, progress and result.
     * </pre>
     */
    public void getJob(signalbox.v1.GetJobRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.GetJobResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetJobMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the jobs that match the filter, newest first.
     * </pre>
     */
    public void listJobs(signalbox.v1.ListJobsRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListJobsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListJobsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the attempts of a job, oldest first.
     * </pre>
     */
    public void listAttempts(signalbox.v1.ListAttemptsRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListAttemptsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListAttemptsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns the log lines of a job that are kept, oldest first.
     * </pre>
     */
    public void listLogLines(signalbox.v1.ListLogLinesRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.ListLogLinesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListLogLinesMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams a snapshot of each job, then every lifecycle event of each job in
     * order, with a sequence that has no gaps, and the latest progress (earlier
     * progress may be omitted). The first message is `opened`. A watch of named
     * jobs ends with OK after the last final event; a watch with a filter stays
     * open. After any other end the client should connect again and resume, by
     * the latest resume_token or by after_sequence.
     * </pre>
     */
    public void watch(signalbox.v1.WatchRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.WatchResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Cancels a job. A PENDING job becomes CANCELLED at once. The handler of a
     * RUNNING job is asked to stop; the job becomes CANCELLED when the handler has
     * ended, or after a grace time (watch the job to see it). A final job is
     * returned unchanged. The call is idempotent; the first note is kept.
     * </pre>
     */
    public void cancel(signalbox.v1.CancelRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.CancelResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Returns a FAILED or CANCELLED job to PENDING with a new budget of attempts;
     * its history is kept. Jobs in other states get FAILED_PRECONDITION. The call
     * is safe to repeat with expected_sequence: a repeated call gets ABORTED.
     * </pre>
     */
    public void retry(signalbox.v1.RetryRequest request,
        io.grpc.stub.StreamObserver<signalbox.v1.RetryResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRetryMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * <pre>
   * Reads and changes jobs, for services that need work to be done.
   * An invalid request gets INVALID_ARGUMENT with a google.rpc.BadRequest that
   * names each invalid field. A job that failed is data, and never makes a call
   * fail. A job that does not exist, or has been removed, gets NOT_FOUND with a
   * google.rpc.ResourceInfo that names it (in Watch the first such job). While
   * the database cannot be reached, calls get UNAVAILABLE with
   * google.rpc.RetryInfo.
   * A request with a field that this server does not know gets INVALID_ARGUMENT
   * too, and has no effect: a newer client does not get something else than it
   * asked for. BadRequest names up to 20 such fields by the path of the message
   * and the field's number ("jobs[3].&lt;field 30&gt;"; an entry of a map by its
   * position, "job.labels[0].&lt;field 3&gt;"). Servers are therefore upgraded before
   * clients. Clients ignore unknown fields of responses.
   * A caller may act for all users or for some. Jobs of other users do not exist
   * for the caller: lists and watches omit them, and a call that names one gets
   * NOT_FOUND. A call that names such a user gets PERMISSION_DENIED.
   * A call that exceeds a quota of the user gets RESOURCE_EXHAUSTED with
   * google.rpc.QuotaFailure and google.rpc.RetryInfo. If the latter is missing,
   * the call will not succeed later either.
   * No response of a method has more than 4 MiB, which is what gRPC clients
   * accept unless they are configured otherwise.
   * </pre>
   */
  public static final class JobServiceBlockingStub extends io.grpc.stub.AbstractBlockingStub<JobServiceBlockingStub> {
    private JobServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected JobServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new JobServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Enqueues one job. The response comes after the commit, so the job is
     * durable. The same job_id or idempotency_key with the same content returns
     * the first job; with other content the call gets ALREADY_EXISTS, with a
     * google.rpc.ResourceInfo that names the job. Each user has separate keys. An
     * id of another user's job gets ALREADY_EXISTS too. A
     * payload over 1 MiB gets RESOURCE_EXHAUSTED.
     * </pre>
     */
    public signalbox.v1.EnqueueResponse enqueue(signalbox.v1.EnqueueRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getEnqueueMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Enqueues up to 10,000 jobs, all or none, in a request of up to 4 MiB. If an
     * item is invalid, the call fails, and the error names its index and field
     * ("jobs[3].kind").
     * </pre>
     */
    public signalbox.v1.EnqueueBatchResponse enqueueBatch(signalbox.v1.EnqueueBatchRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getEnqueueBatchMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns one job with its last attempts, log, progress and result.
     * </pre>
     */
    public signalbox.v1.GetJobResponse getJob(signalbox.v1.GetJobRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetJobMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the jobs that match the filter, newest first.
     * </pre>
     */
    public signalbox.v1.ListJobsResponse listJobs(signalbox.v1.ListJobsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListJobsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the attempts of a job, oldest first.
     * </pre>
     */
    public signalbox.v1.ListAttemptsResponse listAttempts(signalbox.v1.ListAttemptsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListAttemptsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns the log lines of a job that are kept, oldest first.
     * </pre>
     */
    public signalbox.v1.ListLogLinesResponse listLogLines(signalbox.v1.ListLogLinesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListLogLinesMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams a snapshot of each job, then every lifecycle event of each job in
     * order, with a sequence that has no gaps, and the latest progress (earlier
     * progress may be omitted). The first message is `opened`. A watch of named
     * jobs ends with OK after the last final event; a watch with a filter stays
     * open. After any other end the client should connect again and resume, by
     * the latest resume_token or by after_sequence.
     * </pre>
     */
    public java.util.Iterator<signalbox.v1.WatchResponse> watch(
        signalbox.v1.WatchRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels a job. A PENDING job becomes CANCELLED at once. The handler of a
     * RUNNING job is asked to stop; the job becomes CANCELLED when the handler has
     * ended, or after a grace time (watch the job to see it). A final job is
     * returned unchanged. The call is idempotent; the first note is kept.
     * </pre>
     */
    public signalbox.v1.CancelResponse cancel(signalbox.v1.CancelRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Returns a FAILED or CANCELLED job to PENDING with a new budget of attempts;
     * its history is kept. Jobs in other states get FAILED_PRECONDITION. The call
     * is safe to repeat with expected_sequence: a repeated call gets ABORTED.
     * </pre>
     */
    public signalbox.v1.RetryResponse retry(signalbox.v1.RetryRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRetryMethod(), getCallOptions(), request);
    }
  }

  /**
   * <pre>
   * Reads and changes jobs, for services that need work to be done.
   * An invalid request gets INVALID_ARGUMENT with a google.rpc.BadRequest that
   * names each invalid field. A job that failed is data, and never makes a call
   * fail. A job that does not exist, or has been removed, gets NOT_FOUND with a
   * google.rpc.ResourceInfo that names it (in Watch the first such job). While
   * the database cannot be reached, calls get UNAVAILABLE with
   * google.rpc.RetryInfo.
   * A request with a field that this server does not know gets INVALID_ARGUMENT
   * too, and has no effect: a newer client does not get something else than it
   * asked for. BadRequest names up to 20 such fields by the path of the message
   * and the field's number ("jobs[3].&lt;field 30&gt;"; an entry of a map by its
   * position, "job.labels[0].&lt;field 3&gt;"). Servers are therefore upgraded before
   * clients. Clients ignore unknown fields of responses.
   * A caller may act for all users or for some. Jobs of other users do not exist
   * for the caller: lists and watches omit them, and a call that names one gets
   * NOT_FOUND. A call that names such a user gets PERMISSION_DENIED.
   * A call that exceeds a quota of the user gets RESOURCE_EXHAUSTED with
   * google.rpc.QuotaFailure and google.rpc.RetryInfo. If the latter is missing,
   * the call will not succeed later either.
   * No response of a method has more than 4 MiB, which is what gRPC clients
   * accept unless they are configured otherwise.
   * </pre>
   */
  public static final class JobServiceFutureStub extends io.grpc.stub.AbstractFutureStub<JobServiceFutureStub> {
    private JobServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected JobServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new JobServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Enqueues one job. The response comes after the commit, so the job is
     * durable. The same job_id or idempotency_key with the same content returns
     * the first job; with other content the call gets ALREADY_EXISTS, with a
     * google.rpc.ResourceInfo that names the job. Each user has separate keys. An
     * id of another user's job gets ALREADY_EXISTS too. A
     * payload over 1 MiB gets RESOURCE_EXHAUSTED.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.EnqueueResponse> enqueue(
        signalbox.v1.EnqueueRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getEnqueueMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Enqueues up to 10,000 jobs, all or none, in a request of up to 4 MiB. If an
     * item is invalid, the call fails, and the error names its index and field
     * ("jobs[3].kind").
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.EnqueueBatchResponse> enqueueBatch(
        signalbox.v1.EnqueueBatchRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getEnqueueBatchMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns one job with its last attempts, log, progress and result.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.GetJobResponse> getJob(
        signalbox.v1.GetJobRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetJobMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the jobs that match the filter, newest first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.ListJobsResponse> listJobs(
        signalbox.v1.ListJobsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListJobsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the attempts of a job, oldest first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.ListAttemptsResponse> listAttempts(
        signalbox.v1.ListAttemptsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListAttemptsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns the log lines of a job that are kept, oldest first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.ListLogLinesResponse> listLogLines(
        signalbox.v1.ListLogLinesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListLogLinesMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Cancels a job. A PENDING job becomes CANCELLED at once. The handler of a
     * RUNNING job is asked to stop; the job becomes CANCELLED when the handler has
     * ended, or after a grace time (watch the job to see it). A final job is
     * returned unchanged. The call is idempotent; the first note is kept.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.CancelResponse> cancel(
        signalbox.v1.CancelRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Returns a FAILED or CANCELLED job to PENDING with a new budget of attempts;
     * its history is kept. Jobs in other states get FAILED_PRECONDITION. The call
     * is safe to repeat with expected_sequence: a repeated call gets ABORTED.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<signalbox.v1.RetryResponse> retry(
        signalbox.v1.RetryRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRetryMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_ENQUEUE = 0;
  private static final int METHODID_ENQUEUE_BATCH = 1;
  private static final int METHODID_GET_JOB = 2;
  private static final int METHODID_LIST_JOBS = 3;
  private static final int METHODID_LIST_ATTEMPTS = 4;
  private static final int METHODID_LIST_LOG_LINES = 5;
  private static final int METHODID_WATCH = 6;
  private static final int METHODID_CANCEL = 7;
  private static final int METHODID_RETRY = 8;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final JobServiceImplBase serviceImpl;
    private final int methodId;

    MethodHandlers(JobServiceImplBase serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_ENQUEUE:
          serviceImpl.enqueue((signalbox.v1.EnqueueRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.EnqueueResponse>) responseObserver);
          break;
        case METHODID_ENQUEUE_BATCH:
          serviceImpl.enqueueBatch((signalbox.v1.EnqueueBatchRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.EnqueueBatchResponse>) responseObserver);
          break;
        case METHODID_GET_JOB:
          serviceImpl.getJob((signalbox.v1.GetJobRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.GetJobResponse>) responseObserver);
          break;
        case METHODID_LIST_JOBS:
          serviceImpl.listJobs((signalbox.v1.ListJobsRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.ListJobsResponse>) responseObserver);
          break;
        case METHODID_LIST_ATTEMPTS:
          serviceImpl.listAttempts((signalbox.v1.ListAttemptsRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.ListAttemptsResponse>) responseObserver);
          break;
        case METHODID_LIST_LOG_LINES:
          serviceImpl.listLogLines((signalbox.v1.ListLogLinesRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.ListLogLinesResponse>) responseObserver);
          break;
        case METHODID_WATCH:
          serviceImpl.watch((signalbox.v1.WatchRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.WatchResponse>) responseObserver);
          break;
        case METHODID_CANCEL:
          serviceImpl.cancel((signalbox.v1.CancelRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.CancelResponse>) responseObserver);
          break;
        case METHODID_RETRY:
          serviceImpl.retry((signalbox.v1.RetryRequest) request,
              (io.grpc.stub.StreamObserver<signalbox.v1.RetryResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  private static abstract class JobServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    JobServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return signalbox.v1.JobServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("JobService");
    }
  }

  private static final class JobServiceFileDescriptorSupplier
      extends JobServiceBaseDescriptorSupplier {
    JobServiceFileDescriptorSupplier() {}
  }

  private static final class JobServiceMethodDescriptorSupplier
      extends JobServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final String methodName;

    JobServiceMethodDescriptorSupplier(String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (JobServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new JobServiceFileDescriptorSupplier())
              .addMethod(getEnqueueMethod())
              .addMethod(getEnqueueBatchMethod())
              .addMethod(getGetJobMethod())
              .addMethod(getListJobsMethod())
              .addMethod(getListAttemptsMethod())
              .addMethod(getListLogLinesMethod())
              .addMethod(getWatchMethod())
              .addMethod(getCancelMethod())
              .addMethod(getRetryMethod())
              .build();
        }
      }
    }
    return result;
  }
}
