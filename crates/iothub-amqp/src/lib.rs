//! AMQP 1.0 sessions and links without I/O, for the iothub crates. Internal: no stability is promised
