#!/usr/bin/env ruby
# frozen_string_literal: true

# A small client of Signalbox. It enqueues a job and watches it to the end, across lost connections
# and restarts of the server, and prints a JSON object a line. README.md has the commands.

$LOAD_PATH.unshift(File.expand_path('lib', __dir__))

require 'google/protobuf/well_known_types'
require 'google/rpc/code_pb'
require 'google/rpc/error_details_pb'
require 'grpc'
require 'json'
require 'securerandom'
require 'signalbox/v1/job_service_services_pb'

# The details of a type that the service has sent with an error.
def details(error, type)
  status = error.to_rpc_status
  status ? status.details.filter_map { |detail| detail.unpack(type) } : []
end

# Delays between tries, which double from 0.1 s to 2 s.
class Backoff
  def initialize
    @nominal = 0.1
  end

  # Seconds: at random from half of the nominal delay to all of it, so that the clients of a server that
  # restarts do not all come back at once; or the longer delay that the service asks for.
  def next(error)
    delay = @nominal * rand(0.5..1.0)
    @nominal = [2 * @nominal, 2.0].min
    asked = details(error, Google::Rpc::RetryInfo).map { |detail| detail.retry_delay.to_f }
    [delay, *asked].max
  end
end

class Example
  include Signalbox::V1

  USAGE = <<~TEXT
    usage: example.rb run KIND USER PAYLOAD
           example.rb watch JOB_ID [AFTER_SEQUENCE]
           example.rb cancel JOB_ID [NOTE]
           example.rb invalid
           example.rb leave COUNT KIND USER PAYLOAD
  TEXT

  # The time for a call with one response, with all its tries.
  CALL_MAX_S = 10
  # For how long a broken watch tries to resume without receiving a message.
  RESUME_MAX_S = 30

  CHANNEL_ARGUMENTS = {
    # After a lost connection the channel would wait for up to two minutes before it connects again.
    'grpc.initial_reconnect_backoff_ms' => 100,
    'grpc.max_reconnect_backoff_ms' => 1_000,
    # A connection that does not answer a PING is dead.
    'grpc.keepalive_time_ms' => 30_000,
    'grpc.keepalive_timeout_ms' => 10_000,
    # A watch sends only its request, and by default gRPC would stop after two PINGs without other frames.
    'grpc.http2.max_pings_without_data' => 0
  }.freeze

  # A watch that ended with one of these would end the same way again.
  PERMANENT = [
    GRPC::FailedPrecondition, GRPC::InvalidArgument, GRPC::NotFound, GRPC::OutOfRange,
    GRPC::PermissionDenied, GRPC::Unauthenticated, GRPC::Unimplemented
  ].freeze
  FINAL = %i[JOB_STATE_SUCCEEDED JOB_STATE_FAILED JOB_STATE_CANCELLED].freeze

  # The service cannot go on from the resume token, and sends a snapshot instead.
  class TokenRefused < StandardError; end

  # One channel, which connects at the first call, and again whenever the connection is lost.
  def initialize(environment)
    # A variable that is empty counts as unset.
    environment = environment.reject { |_, value| value.empty? }
    authorities = environment['SIGNALBOX_CA']
    token = environment['SIGNALBOX_TOKEN']
    @metadata = token ? { 'authorization' => "Bearer #{token}" } : {}
    @jobs = JobService::Stub.new(
      environment.fetch('SIGNALBOX_ADDRESS', 'localhost:7600'),
      authorities ? GRPC::Core::ChannelCredentials.new(File.read(authorities)) : :this_channel_is_insecure,
      channel_args: CHANNEL_ARGUMENTS
    )
  end

  def execute(command = nil, *arguments)
    case [command, arguments.size]
    in ['run', 3] then run(*arguments)
    in ['watch', 1 | 2] then watch(watch_request(arguments[0], Integer(arguments.fetch(1, '0'), 10)))
    in ['cancel', 1 | 2] then print_line(state: state_name(cancel(*arguments).state))
    in ['invalid', 0] then invalid
    in ['leave', 4] then leave(Integer(arguments[0], 10), *arguments[1..])
    else raise ArgumentError, USAGE
    end
  end

  private

  def run(kind, user, payload)
    response = enqueue(kind, user, payload)
    print_line(job_id: response.job.id, created: response.created)
    watch(watch_request(response.job.id))
  end

  # Adds a job under an id of our own, so that a repeated call does not add another one.
  def enqueue(kind, user, payload)
    job = JobSpec.new(job_id: SecureRandom.uuid, kind: kind, user_id: user, payload: payload.b)
    call(:enqueue, EnqueueRequest.new(job: job))
  end

  def cancel(job_id, note = '')
    call(:cancel, CancelRequest.new(job_id: job_id, note: note)).job
  end

  # Makes a call that is safe to repeat, and repeats it while the service is unavailable.
  def call(method, request)
    deadline = Time.now + CALL_MAX_S
    backoff = Backoff.new
    begin
      @jobs.public_send(method, request, deadline: deadline, metadata: @metadata)
    rescue GRPC::Unavailable => e
      delay = backoff.next(e)
      raise if Time.now + delay > deadline

      sleep(delay)
      retry
    end
  end

  # Prints what happens to a job until it is final. When the stream breaks, another one resumes after
  # the last event that was printed, so that no event is missed or repeated. The request has how far
  # the watch came.
  def watch(request)
    backoff = Backoff.new
    failing_since = nil
    begin
      read_stream(request) do |message|
        show(message, request.jobs.first)
        request.resume_token = message.resume_token unless message.resume_token.empty?
        backoff = Backoff.new
        failing_since = nil
      end
    rescue TokenRefused
      # The service can go on after the sequence of the last event.
      request.resume_token = ''
      retry
    rescue GRPC::BadStatus => e
      failing_since ||= Time.now
      delay = backoff.next(e)
      raise if PERMANENT.include?(e.class) || Time.now + delay - failing_since >= RESUME_MAX_S

      print_line(event: 'reconnect', code: code_name(e))
      sleep(delay)
      retry
    end
    show_end(request.jobs.first.job_id)
  end

  # Yields the messages of one stream. It is left if the token is refused.
  def read_stream(request)
    operation = @jobs.watch(request, metadata: @metadata, return_op: true)
    operation.execute.each do |message|
      if message.event == :opened && !message.opened.resumed && !request.resume_token.empty?
        operation.cancel
        raise TokenRefused
      end
      yield message
    end
  end

  def watch_request(job_id, sequence = 0)
    WatchRequest.new(jobs: [WatchedJob.new(job_id: job_id, after_sequence: sequence)])
  end

  # Prints a message of a watch, and keeps in `watched` how far the watch came.
  def show(message, watched)
    case message.event
    when :snapshot
      job = message.snapshot.job
      print_line(event: 'snapshot', state: state_name(job.state), sequence: job.sequence)
      # The last event of a job that is final already follows its snapshot.
      sequence = FINAL.include?(job.state) ? job.sequence - 1 : job.sequence
      watched.after_sequence = [sequence, watched.after_sequence].max
    when :lifecycle
      event = message.lifecycle
      # A stream that resumes by a token may repeat the latest events.
      return if event.sequence <= watched.after_sequence

      watched.after_sequence = event.sequence
      print_line(event: 'lifecycle', type: type_name(event.type), state: state_name(event.state),
                 sequence: event.sequence)
    when :progress
      progress = message.progress.progress
      # Nil if it is not known.
      fraction = progress.fraction if progress.has_fraction?
      print_line(event: 'progress', fraction: fraction, attempt: message.progress.attempt)
    end
    # Any other message needs no line, or comes from a newer service.
  end

  # An event has a result of at most 64 KiB; GetJob returns any.
  def show_end(job_id)
    job = call(:get_job, GetJobRequest.new(job_id: job_id)).job
    result = job.result ? job.result.data.dup.force_encoding(Encoding::UTF_8).scrub : ''
    print_line(event: 'end', state: state_name(job.state), result: result)
  end

  # Shows how an invalid request is answered: with a violation for each field that is wrong.
  def invalid
    enqueue('', 'u' * 300, '')
    raise 'the service has accepted an invalid job'
  rescue GRPC::InvalidArgument => e
    violations = details(e, Google::Rpc::BadRequest).flat_map { |detail| detail.field_violations.map(&:to_h) }
    print_line(code: code_name(e), violations: violations)
  end

  # Opens many watches on the one connection, and cancels each after its first message. A watch that is
  # no longer read must be cancelled, or it stays open on the service.
  def leave(count, kind, user, payload)
    job_id = enqueue(kind, user, payload).job.id
    # An operation can be cancelled. `execute` sends the request, and returns an enumerator of the messages.
    operations = Array.new(count) { @jobs.watch(watch_request(job_id), metadata: @metadata, return_op: true) }
    operations.zip(operations.map(&:execute)) do |operation, messages|
      messages.next
      operation.cancel
    end
    print_line(left: count)
    cancel(job_id)
  end

  # A value that a newer service has added is a number, and counts as UNSPECIFIED.
  def state_name(state)
    state.is_a?(Symbol) ? state.to_s.delete_prefix('JOB_STATE_') : 'UNSPECIFIED'
  end

  def type_name(type)
    type.is_a?(Symbol) ? type.to_s.delete_prefix('JOB_EVENT_TYPE_') : 'UNSPECIFIED'
  end

  def code_name(error)
    Google::Rpc::Code.lookup(error.code)
  end

  def print_line(**fields)
    puts JSON.generate(fields)
  end
end

$stdout.sync = true
begin
  Example.new(ENV).execute(*ARGV)
rescue GRPC::BadStatus => e
  abort "example: the call failed: #{Google::Rpc::Code.lookup(e.code)}: #{e.details}"
rescue ArgumentError, RuntimeError, SystemCallError => e
  abort "example: #{e.message}"
end
