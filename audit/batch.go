package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ipuka/ipuka/internal/errs"
)

const (
	batchSize = 64     // records that share one commit
	queueSize = 10_000 // records that may wait; more are refused
)

// queue holds the records that wait for the commit under way to end. There is no
// timer: an idle log commits a record at once, and under load a batch is what came
// in while the one before was being committed.
type queue struct {
	mu      sync.Mutex
	waiting []*waiter
	busy    bool // somebody is draining
	closed  bool
	idle    *sync.Cond
}

// waiter is one caller of share.
type waiter struct {
	*pending
	gone bool          // it gave up: do not record any more; guarded by queue.mu
	done chan struct{} // closed when ref or err is final
}

// share records p in a commit shared with others.
func (l *Log) share(ctx context.Context, p *pending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	w := &waiter{pending: p, done: make(chan struct{})}
	if err := l.enqueue(w); err != nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		l.queue.mu.Lock()
		w.gone = true
		l.queue.mu.Unlock()
		return errs.Wrap(errs.Unavailable, ctx.Err(), "the audit log does not answer, nothing was done, try again")
	}
}

func (l *Log) enqueue(w *waiter) error {
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errs.Errorf(errs.Unavailable, "the audit log is closed, the server is stopping")
	}
	if len(q.waiting) >= queueSize {
		return errs.Errorf(errs.Unavailable, "too many records wait for the audit log, nothing was done, try again")
	}
	q.waiting = append(q.waiting, w)
	if !q.busy {
		q.busy = true
		go l.drain()
	}
	return nil
}

// drain commits batches until nothing waits.
func (l *Log) drain() {
	for {
		batch := l.queue.take()
		if batch == nil {
			return
		}
		l.commit(batch)
	}
}

// take returns the next batch, or nil after marking the queue idle.
func (q *queue) take() []*waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waiter) bool { return w.gone })
	if len(q.waiting) == 0 {
		q.waiting, q.busy = nil, false
		if q.idle != nil {
			q.idle.Broadcast()
		}
		return nil
	}
	n := min(len(q.waiting), batchSize)
	batch := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return batch
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.idle == nil {
		q.idle = sync.NewCond(&q.mu)
	}
	for q.busy {
		q.idle.Wait()
	}
}

// commit writes batch in one transaction and tells every waiter. When one record
// makes the transaction fail for a reason of its own, the others are written
// without it.
func (l *Log) commit(batch []*waiter) {
	err := l.commitTogether(batch)
	if err != nil && len(batch) > 1 && !errors.Is(err, errs.Unavailable) {
		for _, w := range batch {
			l.commit([]*waiter{w})
		}
		return
	}
	for _, w := range batch {
		if err != nil {
			w.err = err
		}
		close(w.done)
	}
}

func (l *Log) commitTogether(batch []*waiter) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer func() { // a panic here would leave every waiter waiting
		if cause := recover(); cause != nil {
			err = fmt.Errorf("writing the audit log: panic: %v", cause)
		}
	}()
	return l.db.Tx(ctx, func(ctx context.Context) error {
		byLog := l.queue.present(batch)
		// In order, so that two replicas never wait for each other's heads.
		for _, log := range slices.Sorted(maps.Keys(byLog)) {
			if err := l.write(ctx, log, byLog[log]); err != nil {
				return err
			}
		}
		return nil
	})
}

// present returns by log those records of batch whose callers still wait. Waiting
// for the database may have taken longer than they do.
func (q *queue) present(batch []*waiter) map[string][]*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	byLog := make(map[string][]*pending)
	for _, w := range batch {
		if !w.gone {
			byLog[w.log] = append(byLog[w.log], w.pending)
		}
	}
	return byLog
}
