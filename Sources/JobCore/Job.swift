/// A job.
