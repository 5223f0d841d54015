//! Whether the proxy is still there when connections through it have ended.

use std::cell::Cell;
use std::rc::Rc;

use super::{Egress, PROXY_PATIENCE, ProxyNews, io_reason, within};

impl Egress {
    /// The other side of a connection has closed it. If it went through a proxy, that may be gone, and nobody would say so: whoever was connected
    /// is left alone for a while. So the proxy is called, once for all that end now, and if it is gone again and again until it is back.
    pub(crate) fn look_at_proxy(self: &Rc<Egress>) {
        if self.proxy.is_none() || self.is_looking.replace(true) {
            return;
        }
        let egress = self.clone();
        tokio::task::spawn_local(async move {
            egress.look().await;
            egress.is_looking.set(false);
        });
    }

    async fn look(&self) {
        let Some(proxy) = &self.proxy else { return };
        let mut is_gone = false;
        while let Ok(generation) = self.wait_until_open(&Cell::new(true)).await {
            let called = within(PROXY_PATIENCE, self.connect_to_proxy(proxy)).await;
            match called.and_then(|called| called) {
                Ok(_) if is_gone => return self.tell_if_news_that_it_works(),
                // What else may be wrong with it is for those to find out who want something of it.
                Ok(_) => return self.health.borrow_mut().may_be_tried_at_once(),
                Err(error) => {
                    is_gone = true;
                    self.failed(generation, format!("cannot connect to it: {}", io_reason(&error))).await;
                }
            }
        }
    }

    /// It works, as far as is known.
    pub(super) fn tell_if_news_that_it_works(&self) {
        if self.health.borrow_mut().works() {
            self.changed.notify_waiters();
            (self.tell)(ProxyNews::Works);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use tokio::sync::mpsc::unbounded_channel;
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;
    use crate::bind::Local;

    #[tokio::test]
    async fn a_proxy_that_has_gone_is_told_of_and_so_is_its_return() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = format!("http://{address}").parse().unwrap();
        let (tell, mut told) = unbounded_channel();
        let egress = Rc::new(Egress::new(Local::default(), Some(proxy), move |news| drop(tell.send(news))));
        let story = async {
            // A peer has gone, and the proxy has not.
            egress.look_at_proxy();
            while egress.is_looking.get() {
                tokio::task::yield_now().await;
            }
            assert!(told.try_recv().is_err());
            drop(listener);
            (0..3).for_each(|_| egress.look_at_proxy());
            let failed = timeout(Duration::from_secs(10), told.recv()).await.unwrap();
            assert!(matches!(failed, Some(ProxyNews::Failed(_))), "{failed:?}");
            let _listener = TcpListener::bind(address).unwrap();
            let works = timeout(Duration::from_secs(10), told.recv()).await.unwrap();
            assert_eq!(works, Some(ProxyNews::Works));
            assert!(told.try_recv().is_err());
        };
        LocalSet::new().run_until(story).await;
    }
}
