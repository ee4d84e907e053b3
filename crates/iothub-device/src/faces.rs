//! What every face of a client does alike.

/// The methods that modules and devices share, within an `impl` block of a type with a `client: Client`.
macro_rules! shared_methods {
    () => {
        /// The twin of this identity. No I/O.
        #[must_use]
        pub fn twin(&self) -> Twin {
            Twin::new(self.client.clone())
        }

        /// Sends a message to the hub; returns once the hub has stored it. Messages of one client keep the order in
        /// which their futures were first polled. After a connection loss what was not confirmed is sent again, so it may arrive twice, never
        /// not at all.
        ///
        /// Dropping the future may leave the message sent.
        ///
        /// # Errors
        ///
        /// - [`InvalidInput`](iothub_common::ErrorKind::InvalidInput) before anything is sent, naming the part: over
        ///   256 KiB, reserved property names, ids that are not ASCII.
        /// - [`QuotaExceeded`](iothub_common::ErrorKind::QuotaExceeded), [`Throttled`](iothub_common::ErrorKind::Throttled):
        ///   the hub refuses for now.
        /// - [`Timeout`](iothub_common::ErrorKind::Timeout), [`Closed`](iothub_common::ErrorKind::Closed): look at
        ///   [`Error::may_have_been_applied`].
        pub async fn send(&self, message: impl Into<Message>) -> Result<()> {
            telemetry::send(&self.client, message.into(), None, self.client.call_timeout()).await
        }

        /// Sends many messages in as few transfers as the limit of 256 KiB allows; returns once the hub has stored
        /// all of them. Cheaper than [`Self::send`] for each.
        ///
        /// # Errors
        ///
        /// As [`Self::send`]. After one, some of the messages may be stored.
        pub async fn send_batch(&self, messages: &[Message]) -> Result<()> {
            telemetry::send_batch(&self.client, messages, self.client.call_timeout()).await
        }

        /// Listens for messages from the cloud. Returns once the hub has granted the link. Several streams share the
        /// messages between them.
        ///
        /// # Errors
        ///
        /// As [`Twin::get`].
        pub async fn messages(&self) -> Result<ReceivedMessages> {
            let reader = self.client.receive(Which::Cloud, None).await?;
            Ok(ReceivedMessages::new(reader, Which::Cloud))
        }

        /// Listens for direct methods that no [`method`](Self::method) stream takes. Returns once the hub has granted
        /// the links.
        ///
        /// # Errors
        ///
        /// As [`Twin::get`].
        pub async fn methods(&self) -> Result<MethodRequests> {
            Ok(MethodRequests::new(self.client.methods(None).await?))
        }

        /// Listens for one direct method, case-sensitive. Returns once the hub has granted the links.
        ///
        /// # Errors
        ///
        /// As [`Twin::get`].
        pub async fn method(&self, name: impl Into<String>) -> Result<MethodRequests> {
            Ok(MethodRequests::new(self.client.methods(Some(name.into())).await?))
        }

        /// How the connection is doing now.
        #[must_use]
        pub fn status(&self) -> ConnectionStatus {
            self.client.status()
        }

        /// The connection status as it changes, beginning with the present one.
        #[must_use]
        pub fn status_changes(&self) -> StatusChanges {
            self.client.status_changes()
        }

        /// Waits until the client is closed: `None` when the application closed it, else why it gave up.
        pub async fn closed(&self) -> Option<Error> {
            self.client.closed().await
        }

        /// Closes the connection and waits until it is closed. Ends within 5 s and cannot fail; calls that wait
        /// for an answer end with [`ErrorKind::Closed`](iothub_common::ErrorKind::Closed). May be called anywhere,
        /// any number of times, connected or not.
        pub async fn close(&self) {
            self.client.close().await;
        }
    };
}

pub(crate) use shared_methods;
