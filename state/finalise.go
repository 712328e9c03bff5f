package state

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// An update ends in two steps, whatever ends it: complete, cancel, an expired lease or
// the restart of a server.
//
// end decides, in one transaction under the update's lock, how it ends, and closes it:
// from here on nothing it is sent is acknowledged. finalise then computes what the
// update leaves, writes that to the bucket, and in one transaction gives it to the
// stack, completes the history and frees the stack. A crash between the two leaves the
// update closing; whoever meets it next, a caller or the sweeper, runs finalise again,
// which comes to the same result, and only the first one to commit has an effect.

// end closes an update as decide says, which gets it locked, sets its outcome, and
// returns false to leave it alone. It returns the update as it stands afterwards.
func (s *Server) end(ctx context.Context, id string, decide func(u *update) bool) (update, error) {
	now, err := s.clock.now(ctx)
	if err != nil {
		return update{}, err
	}
	var u update
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		if u, err = s.store.lockUpdate(ctx, id); err != nil || !decide(&u) {
			return err
		}
		u.status = closing
		if u.ended.IsZero() {
			u.ended = now
		}
		return s.store.saveUpdate(ctx, u)
	})
	if err != nil || u.status != closing {
		return u, err
	}
	return s.finaliseOnce(ctx, u)
}

// finaliseOnce runs finalise for all who ask for it at the same time: a large journal
// takes a while, and readers of the stack come by. It goes on when the client that
// asked hangs up.
func (s *Server) finaliseOnce(ctx context.Context, u update) (update, error) {
	result, err, _ := s.ending.Do(u.id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finaliseTimeout)
		defer cancel()
		return s.finalise(ctx, u)
	})
	return result.(update), err
}

// endOverdue ends an update whose time is up, or whose end was interrupted. With
// needed it also ends one that has been cancelled and whose client may still report.
func (s *Server) endOverdue(ctx context.Context, u update, needed bool) (update, error) {
	now, err := s.clock.now(ctx)
	if err != nil {
		return u, err
	}
	expired := func(u update) bool { return !now.Before(u.expires) }
	if u.status != closing && !expired(u) && (u.status != cancelling || !needed) {
		return u, nil
	}
	return s.end(ctx, u.id, func(u *update) bool {
		switch {
		case u.status == running && expired(*u):
			u.outcome = timedOut
			u.note = fmt.Sprintf("the lease expired at %s without a word from the client", u.expires.Format(time.RFC3339))
			return true
		case u.status == cancelling:
			return needed || expired(*u)
		}
		return u.status == closing
	})
}

// settled returns the stack after the update that holds it has been ended, if its
// time was up. With needed a cancelled one is ended too, as the caller wants the stack.
func (s *Server) settled(ctx context.Context, st stack, needed bool) (stack, error) {
	writer, busy, err := s.store.writer(ctx, st.id)
	if err != nil || !busy {
		return st, err
	}
	after, err := s.endOverdue(ctx, writer, needed)
	if err != nil || after.status == writer.status {
		return st, err
	}
	return s.store.stackByID(ctx, st.id)
}

// finalise gives what a closing update leaves to its stack.
func (s *Server) finalise(ctx context.Context, u update) (update, error) {
	var left remains
	if !u.preview {
		var err error
		if left, err = s.remains(ctx, u); err != nil {
			return u, err
		}
		if left.hash, err = s.keep(ctx, u, left.deployment); err != nil {
			return u, err
		}
	}
	err := s.store.db.Tx(ctx, func(ctx context.Context) error {
		var st stack
		var err error
		if !u.preview {
			if st, err = s.store.lockStack(ctx, u.stackID); err != nil {
				return err
			}
		}
		if u, err = s.store.lockUpdate(ctx, u.id); err != nil || u.status != closing {
			return err
		}
		return s.conclude(ctx, st, &u, left)
	})
	return u, err
}

// keep stores what an update leaves, unless that is what it found, and returns its hash.
func (s *Server) keep(ctx context.Context, u update, deployment []byte) (string, error) {
	if hashOf(deployment) == u.base || u.base == "" && string(deployment) == emptyDeployment {
		return u.base, nil
	}
	return s.deployments.put(ctx, u.stackID, deployment)
}

// conclude is the second step's transaction.
func (s *Server) conclude(ctx context.Context, st stack, u *update, left remains) error {
	u.status, u.note = u.outcome, joinNotes(u.note, left.note)
	if left.faulty && u.outcome == succeeded {
		u.status = failed
	}
	var err error
	if u.changes, err = s.changes(ctx, *u); err != nil {
		return err
	}
	if u.note != "" {
		if err := s.addNote(ctx, *u); err != nil {
			return err
		}
	}
	if !u.preview {
		u.deployment, u.resources = left.hash, left.resources
		st.deployment, st.resources = left.hash, left.resources
		if err := s.store.advance(ctx, st); err != nil {
			return err
		}
		if u.checkpoint != "" {
			if err := s.store.addGarbage(ctx, runningPrefix(*u)); err != nil {
				return err
			}
			u.checkpoint = ""
		}
		// A journal that could not be used in full is kept, with its stack, for whoever
		// has to find out what was lost.
		if left.note == "" {
			if err := s.store.dropEntries(ctx, u.id); err != nil {
				return err
			}
		}
	}
	return s.store.saveUpdate(ctx, *u)
}

// changes returns the counts of changes by operation that the engine summed up, the
// only place where they are said. An engine that was killed has not.
func (s *Server) changes(ctx context.Context, u update) ([]byte, error) {
	event, ok, err := s.store.lastEvent(ctx, u.id, summaryEvent)
	if err != nil || !ok {
		return nil, err
	}
	return httpapi.Marshal(summed(event.Content))
}

// summed returns the counts of a summary event. What a client says of itself must not
// keep its update from ending, so there are none where it makes no sense.
func summed(content []byte) map[string]int64 {
	var body struct {
		Summary struct {
			Changes map[string]int64 `json:"resourceChanges"`
		} `json:"summaryEvent"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return nil
	}
	return body.Summary.Changes
}

// addNote shows the note of an update at the end of its log.
func (s *Server) addNote(ctx context.Context, u update) error {
	last, ok, err := s.store.lastEvent(ctx, u.id, "")
	if err != nil {
		return err
	}
	sequence := int64(0)
	if ok {
		sequence = last.Sequence + 1
	}
	type diagnostic struct {
		Prefix   string `json:"prefix"`
		Message  string `json:"message"`
		Color    string `json:"color"`
		Severity string `json:"severity"`
	}
	content, err := httpapi.Marshal(struct {
		Sequence   int64      `json:"sequence"`
		Timestamp  int64      `json:"timestamp"`
		Diagnostic diagnostic `json:"diagnosticEvent"`
	}{sequence, u.ended.Unix(), diagnostic{"error: ", u.note + "\n", "never", "error"}})
	if err != nil {
		return err
	}
	return s.store.addEvents(ctx, u.id, []eventRow{{Sequence: sequence, Type: diagnosticEvent, Content: content}})
}

// sweepBatch bounds what one round of the sweeper takes on.
const sweepBatch = 200

// sweep tidies up after clients that went away. What fails is tried again next time.
func (s *Server) sweep(ctx context.Context) {
	now, err := s.clock.now(ctx)
	if err != nil {
		s.log.ErrorContext(ctx, "sweeping updates", "error", err)
		return
	}
	overdue, err := s.store.overdue(ctx, now, sweepBatch)
	if err != nil {
		s.log.ErrorContext(ctx, "sweeping updates", "error", err)
		return
	}
	for _, u := range overdue {
		if u.status == notStarted {
			err = s.store.dropUnstarted(ctx, u.id, now)
		} else {
			_, err = s.endOverdue(ctx, u, false)
		}
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "ending an overdue update", "update", u.id, "error", err)
		}
	}
	s.collect(ctx)
}

// collect removes from the bucket what nothing points to any more.
func (s *Server) collect(ctx context.Context) {
	prefixes, err := s.store.garbage(ctx, sweepBatch)
	for _, prefix := range prefixes {
		if err = s.deployments.remove(ctx, prefix); err == nil {
			err = s.store.dropGarbage(ctx, prefix)
		}
		if err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "emptying the bucket", "error", err)
	}
}
