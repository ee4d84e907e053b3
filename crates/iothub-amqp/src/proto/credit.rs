//! Credit: how many messages a link may carry, in both directions.

use fe2o3_amqp::frames::amqp::{Frame, FrameBody};
use fe2o3_amqp_types::performatives::Flow;

use super::{
    Connection, Credit, Event, LinkId,
    link::{Link, State},
};

impl Connection {
    /// Lets the peer send `credit` more messages in all.
    pub fn grant(&mut self, id: LinkId, credit: u32) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.sender || link.state != State::Attached {
            return;
        }
        link.credit = credit;
        let (session, handle, count) = (link.session, link.handle, link.delivery_count);
        let Some(flow) = self.session_flow(session) else { return };
        let flow = Flow {
            handle: Some(handle.into()),
            delivery_count: Some(count),
            link_credit: Some(credit),
            ..flow
        };
        self.out.push_back(Frame::new(session.0, FrameBody::Flow(flow)));
    }

    /// What is left of the credit: granted by the peer on a sender, by us on a receiver.
    pub fn credit(&self, id: LinkId) -> u32 {
        self.links.get(&id).map_or(0, |l| l.credit)
    }

    /// Messages that wait for credit on a sending link.
    pub fn queued(&self, id: LinkId) -> usize {
        self.links.get(&id).map_or(0, |l| l.queue.len())
    }

    pub(super) fn first_credit(&mut self, id: LinkId) {
        if let Some(Link { sender: false, credit_mode: Credit::Auto(credit), .. }) = self.links.get(&id) {
            let credit = *credit;
            self.grant(id, credit);
        }
    }

    pub(super) fn on_link_flow(&mut self, id: LinkId, flow: &Flow) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.sender {
            if let Some(credit) = flow.link_credit {
                let limit = flow.delivery_count.unwrap_or(0).wrapping_add(credit);
                let left = limit.wrapping_sub(link.delivery_count);
                // Over half the range: the credit was used up by what is on the way.
                link.credit = if left > i32::MAX as u32 && credit < i32::MAX as u32 { 0 } else { left };
            }
            let may_send = link.credit as usize > link.queue.len() && link.state == State::Attached;
            link.draining = flow.drain;
            self.wake_link(id);
            if may_send {
                self.events.push_back(Event::Credit { link: id });
            }
            if flow.drain {
                if !self.draining.contains(&id) {
                    self.draining.push_back(id);
                }
            } else if flow.echo {
                self.echo(id);
            }
        } else if flow.echo {
            let credit = link.credit;
            self.grant(id, credit);
        }
    }

    /// Gives credit back for which there is no message (AMQP 1.0 part 2, 2.6.7): the frame that says so for
    /// the next link that was asked to. Not before all events were seen, as more messages may come of them.
    pub(super) fn next_drained(&mut self) -> Option<Frame> {
        if !self.events.is_empty() {
            return None;
        }
        for _ in 0..self.draining.len() {
            let id = self.draining.pop_front()?;
            let Some(link) = self.links.get_mut(&id) else { continue };
            if !link.draining || link.state != State::Attached {
                continue;
            }
            if !link.queue.is_empty() && link.credit > 0 {
                self.draining.push_back(id);
                continue;
            }
            link.draining = false;
            link.delivery_count = link.delivery_count.wrapping_add(link.credit);
            link.credit = 0;
            return self.sender_flow(id);
        }
        None
    }

    fn echo(&mut self, id: LinkId) {
        if let Some(flow) = self.sender_flow(id) {
            self.out.push_back(flow);
        }
    }

    fn sender_flow(&self, id: LinkId) -> Option<Frame> {
        let link = self.links.get(&id)?;
        let flow = Flow {
            handle: Some(link.handle.into()),
            delivery_count: Some(link.delivery_count),
            link_credit: Some(link.credit),
            available: Some(u32::try_from(link.queue.len()).unwrap_or(u32::MAX)),
            ..self.session_flow(link.session)?
        };
        Some(Frame::new(link.session.0, FrameBody::Flow(flow)))
    }
}
