//! The body of an answer on its way to the client: at the client's pace, or as fast as the server sends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use buffering::ResponseBuffer;
use exchange::{Body, Chunk, ChunkStream, Fields, StreamError};

use crate::AnswerBody;

/// Reads only as the client takes. `trailers`: what stands behind the body goes along.
pub fn direct(body: AnswerBody, trailers: bool) -> Body {
    Body::Stream(Box::new(Direct { body, trailers }))
}

/// Reads as fast as the server sends, as long as there is room: so it is free for others when its last byte has come.
pub fn buffered(body: AnswerBody, buffer: ResponseBuffer, trailers: bool) -> Body {
    let shared = Rc::new(RefCell::new(Shared {
        buffer,
        end: None,
        trailers: None,
        consumer: None,
        producer: None,
        abandoned: false,
    }));
    tokio::task::spawn_local(pump(body, Rc::clone(&shared), trailers));
    Body::Stream(Box::new(Buffered(shared)))
}

struct Direct {
    body: AnswerBody,
    trailers: bool,
}

impl ChunkStream for Direct {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        self.body.poll_next(cx).map(|next| next.map(|next| next.map(Chunk::Data).map_err(StreamError)))
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers().filter(|_| self.trailers)
    }
}

struct Shared {
    buffer: ResponseBuffer,
    end: Option<Result<(), &'static str>>,
    trailers: Option<Fields>,
    consumer: Option<Waker>,
    producer: Option<Waker>,
    /// Nobody takes it any more.
    abandoned: bool,
}

async fn pump(mut body: AnswerBody, shared: Rc<RefCell<Shared>>, trailers: bool) {
    poll_fn(|cx| {
        loop {
            {
                let mut shared = shared.borrow_mut();
                if shared.abandoned {
                    return Poll::Ready(());
                }
                shared.producer = Some(cx.waker().clone());
                if !shared.buffer.has_room() {
                    return Poll::Pending;
                }
            }
            let next = std::task::ready!(body.poll_next(cx));
            let mut shared = shared.borrow_mut();
            match next {
                Some(Ok(data)) => shared.buffer.push(data),
                Some(Err(words)) => shared.end = Some(Err(words)),
                None => {
                    shared.end = Some(Ok(()));
                    shared.trailers = body.trailers().filter(|_| trailers);
                }
            }
            if let Some(consumer) = shared.consumer.take() {
                consumer.wake();
            }
            if shared.end.is_some() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

struct Buffered(Rc<RefCell<Shared>>);

impl ChunkStream for Buffered {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let mut shared = self.0.borrow_mut();
        if let Some(chunk) = shared.buffer.pop() {
            if let Some(producer) = shared.producer.take() {
                producer.wake();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match shared.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(words)) => Poll::Ready(Some(Err(StreamError(words)))),
            None => {
                shared.consumer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.0.borrow_mut().trailers.take()
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.abandoned = true;
        if let Some(producer) = shared.producer.take() {
            producer.wake();
        }
    }
}
