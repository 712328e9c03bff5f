package state

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// status is where an update stands.
//
//	not started ─▶ running ─────▶ closing ─▶ succeeded, failed, cancelled, timed out
//	                  └▶ cancelling ─▶┘
//
// A cancelled update goes on taking what its client, which may not have noticed yet,
// reports of resources it has made. It is closed when the client completes, when its
// lease expires, or when somebody else needs the stack. In closing nothing more is
// taken and the new deployment is being written.
type status string

const (
	notStarted status = "not started"
	running    status = "running"
	cancelling status = "cancelling"
	closing    status = "closing"
	succeeded  status = "succeeded"
	failed     status = "failed"
	cancelled  status = "cancelled"
	timedOut   status = "timed out"
)

func (s status) ended() bool {
	return s == succeeded || s == failed || s == cancelled || s == timedOut
}

// update is one run of an engine against a stack, or a change that made a version
// without an engine: an import, a rename.
type update struct {
	id, stackID string
	kind        string // preview, update, refresh, destroy, import, rename
	preview     bool   // changes nothing: kind preview, or a dry run of another
	status      status
	version     int64

	created, started, ended time.Time
	expires                 time.Time
	author                  assertion.Caller

	message             string
	environment, config []byte // JSON, as sent

	journaled  bool
	lease      []byte // SHA-256 of the token
	base       string // hash of the deployment it started from
	deployment string // hash of the deployment it left
	resources  int64
	changes    []byte // JSON, as the engine summed up

	outcome   status // what status becomes after closing
	requested string // what the client said in complete
	note      string // what went wrong

	checkpoint         string
	checkpointSequence int64
}

// who names the author for other users.
func (u update) who() string {
	if u.author.Login != "" {
		return u.author.Login
	}
	return "somebody"
}

func (u update) conflict() error {
	return errs.Errorf(errs.Conflict, "another update is running: %s started update %d (%s) at %s; wait for its end, or end it with `pulumi cancel`",
		u.who(), u.version, u.kind, u.started.Format(time.RFC3339))
}

// updateOf returns the stack and the update that the path of r names.
func (s *Server) updateOf(r *http.Request) (stack, update, error) {
	st, err := s.stackOf(r)
	if err != nil {
		return stack{}, update{}, err
	}
	u, err := s.store.update(r.Context(), st.id, r.PathValue("update"))
	return st, u, err
}

type createUpdateBody struct {
	Options struct {
		DryRun bool `json:"dryRun"`
	} `json:"options"`
	Config   jsontext.Value `json:"config"`
	Metadata struct {
		Message     string         `json:"message"`
		Environment jsontext.Value `json:"environment"`
	} `json:"metadata"`
}

// createUpdate takes note of an update that is about to start. It locks nothing.
func (s *Server) createUpdate(kind string) httpapi.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		st, err := s.stackOf(r)
		if err != nil {
			return err
		}
		var body createUpdateBody
		if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
			return err
		}
		if err := body.check(); err != nil {
			return err
		}
		now, err := s.clock.now(ctx)
		if err != nil {
			return err
		}
		u := update{
			id: uuid.NewString(), stackID: st.id, kind: kind, preview: kind == "preview" || body.Options.DryRun,
			status: notStarted, created: now, expires: now.Add(unstartedTTL), author: callerOf(ctx),
			message: body.Metadata.Message, environment: body.Metadata.Environment, config: body.Config,
		}
		if err := s.store.insertUpdate(ctx, u); err != nil {
			return err
		}
		httpapi.WriteJSON(w, http.StatusOK, struct {
			UpdateID         string     `json:"updateID"`
			RequiredPolicies []struct{} `json:"requiredPolicies"`
			Messages         []struct{} `json:"messages"`
		}{UpdateID: u.id})
		return nil
	}
}

// check refuses configuration and environment that the history could not show, and
// clears those that are null.
func (b *createUpdateBody) check() error {
	for _, raw := range []*jsontext.Value{&b.Config, &b.Metadata.Environment} {
		if raw.Kind() == 'n' {
			*raw = nil
		}
	}
	var config map[string]struct {
		String string `json:"string"`
		Secret bool   `json:"secret"`
		Object bool   `json:"object"`
	}
	var environment map[string]string
	if len(b.Config) > 0 {
		if err := httpapi.Decode(b.Config, &config); err != nil {
			return err
		}
	}
	if len(b.Metadata.Environment) > 0 {
		return httpapi.Decode(b.Metadata.Environment, &environment)
	}
	return nil
}

type startBody struct {
	Tags           map[string]string `json:"tags"`
	JournalVersion int               `json:"journalVersion"`
}

type startedBody struct {
	Version         int64  `json:"version"`
	Token           string `json:"token"`
	TokenExpiration int64  `json:"tokenExpiration"`
	JournalVersion  int    `json:"journalVersion,omitzero"`
}

// journalVersion is the version of the journal protocol that this service speaks.
const journalVersion = 1

// startUpdate gives an update its lease and, unless it is a preview, the stack.
func (s *Server) startUpdate(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, u, err := s.updateOf(r)
	if err != nil {
		return err
	}
	var body startBody
	if err := httpapi.ReadJSON(r, httpapi.Small, &body); err != nil {
		return err
	}
	caller := callerOf(ctx)
	if err := u.startableBy(caller); err != nil {
		return err
	}
	if !slices.Contains(caller.Granted, "stack_tags:update") {
		body.Tags = nil // the client sends them along; they are not the reason for its call
	}
	if !u.preview {
		if _, ok := body.Tags[projectTag]; ok {
			body.Tags[projectTag] = st.ref.project // the client took it from a file that may be older than a rename
		}
		if err := checkTags(body.Tags, st.ref.project); err != nil {
			return err
		}
		if _, err := s.settled(ctx, st, true); err != nil {
			return err
		}
	}
	now, err := s.clock.now(ctx)
	if err != nil {
		return err
	}
	token, hash := newLease()
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		if st, err = s.store.lockStack(ctx, st.id); err != nil {
			return err
		}
		if u, err = s.store.lockUpdate(ctx, u.id); err != nil {
			return err
		}
		if err := u.startable(now); err != nil {
			return err
		}
		u.status, u.started, u.expires, u.author = running, now, now.Add(s.lease), caller
		u.base, u.lease, u.journaled = st.deployment, hash, body.JournalVersion == journalVersion
		if !u.preview {
			if err := s.take(ctx, &st, &u, body.Tags); err != nil {
				return err
			}
		}
		return s.store.saveUpdate(ctx, u)
	})
	if isDuplicate(err) { // the index of writers, had the lock not been enough
		err = errs.Wrap(errs.Conflict, err, "another update has just been started")
	}
	if err != nil {
		return err
	}
	answer := startedBody{Version: st.version, Token: token, TokenExpiration: u.expires.Unix()}
	if u.journaled {
		answer.JournalVersion = journalVersion
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
	return nil
}

// startableBy decides the one thing that the gate leaves to this service, because
// only here it is known whether the update was created as a preview.
func (u update) startableBy(caller assertion.Caller) error {
	if u.author.ID != caller.ID {
		return errs.Errorf(errs.Forbidden, "the update was prepared by %s and can be started by them only", u.who())
	}
	if !u.preview && !slices.Contains(caller.Granted, "stack:write") {
		return errs.Errorf(errs.Forbidden, "you need the permission stack:write to start this update")
	}
	return nil
}

func (u update) startable(now time.Time) error {
	switch {
	case u.status != notStarted:
		return errs.Errorf(errs.Conflict, "this update has been started before, create a new one")
	case !now.Before(u.expires):
		return errs.Errorf(errs.Conflict, "this update was created more than %s ago, create a new one", unstartedTTL)
	}
	return nil
}

// take makes u the writer of a stack that the caller has locked. Tags replace the
// stack's; nil leaves them.
func (s *Server) take(ctx context.Context, st *stack, u *update, tags map[string]string) error {
	writer, busy, err := s.store.writer(ctx, st.id)
	if err != nil {
		return err
	}
	if busy {
		return writer.conflict()
	}
	st.version++
	st.activeUpdate, st.lastUpdate, u.version = u.id, u.started, st.version
	if tags != nil {
		if err := s.store.replaceTags(ctx, st.id, tags); err != nil {
			return err
		}
	}
	return s.store.advance(ctx, *st)
}

func newLease() (token string, hash []byte) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	token = base64.RawURLEncoding.EncodeToString(secret)
	return token, hashLease(token)
}

// completeUpdate ends an update as its client says, if the journal agrees.
func (s *Server) completeUpdate(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	u, now, err := s.leased(r)
	if err != nil {
		return err
	}
	var body struct {
		Status string `json:"status"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Small, &body); err != nil {
		return err
	}
	if !slices.Contains([]status{succeeded, failed}, status(body.Status)) {
		return errs.Errorf(errs.Invalid, "an update completes with status succeeded or failed")
	}
	switch {
	case u.status == running && now.Before(u.expires):
		u, err = s.end(ctx, u.id, func(u *update) bool {
			if u.status != running {
				return false
			}
			u.outcome, u.requested = status(body.Status), body.Status
			return true
		})
	case !u.status.ended():
		u, err = s.endOverdue(ctx, u, true)
	}
	if err != nil {
		return err
	}
	return u.completed(w, body.Status)
}

// completed answers a call of complete once the update has ended. A repetition gets
// the answer that was lost.
func (u update) completed(w http.ResponseWriter, requested string) error {
	switch {
	case u.requested != requested || u.status == cancelled || u.status == timedOut:
		return u.over()
	case u.status != status(requested):
		return errs.Errorf(errs.Conflict, "the update is marked as failed: %s", u.note)
	}
	return noContent(w)
}

// over refuses a call to an update that has ended.
func (u update) over() error {
	text := fmt.Sprintf("the update has ended (%s) and takes nothing more", u.status)
	if u.note != "" {
		text += ": " + u.note
	}
	return errs.Errorf(errs.Conflict, "%s", text)
}

// cancelUpdate stops an update: it gets no further lease. What its client still
// reports is kept.
func (s *Server) cancelUpdate(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, u, err := s.updateOf(r)
	if err != nil {
		return err
	}
	if _, err := s.settled(ctx, st, false); err != nil {
		return err
	}
	now, err := s.clock.now(ctx)
	if err != nil {
		return err
	}
	caller := callerOf(ctx)
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		if u, err = s.store.lockUpdate(ctx, u.id); err != nil {
			return err
		}
		switch u.status {
		case running:
			u.status, u.outcome, u.ended = cancelling, cancelled, now
			u.note = fmt.Sprintf("cancelled by %s", update{author: caller}.who())
			return s.store.saveUpdate(ctx, u)
		case cancelling, cancelled:
			return nil
		case notStarted:
			return errs.Errorf(errs.Conflict, "this update has not been started, there is nothing to cancel")
		}
		return u.over()
	})
	if err != nil {
		return err
	}
	if u.preview { // it has nothing to report
		if _, err := s.endOverdue(ctx, u, true); err != nil {
			return err
		}
	}
	return noContent(w)
}

// updateStatus answers how far an update is. An import is done when its call returns.
func (s *Server) updateStatus(w http.ResponseWriter, r *http.Request) error {
	_, u, err := s.updateOf(r)
	if err != nil {
		return err
	}
	text := u.status
	switch u.status {
	case cancelling, closing:
		text = running
	case timedOut:
		text = failed
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Status status     `json:"status"`
		Events []struct{} `json:"events"`
	}{Status: text})
	return nil
}
