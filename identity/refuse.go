package identity

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// Why somebody whom a connector has sent is not let in, as the reasons of a [Refusal].
const (
	FlowUnknown       = "flow_unknown" // the browser did not begin it
	FlowUsed          = "flow_used"
	FlowExpired       = "flow_expired"
	Replayed          = "replayed"     // an assertion, or another thing that may be used once
	NotAMember        = "not_a_member" // of the groups that a connector lets in
	SignUpOff         = "sign_up_off"
	IdentityElsewhere = "identity_elsewhere" // to be linked, and somebody else's
	IdentityTwice     = "identity_twice"     // two first arrivals of one person, again and again
	ManagedElsewhere  = "managed_elsewhere"  // the account belongs to another provider
	OrganizationGone  = "organization_gone"  // deleted since the sign-in began
	ConnectorOff      = "connector_off"      // the organization does not use it any more
	NotFresh          = "not_fresh"          // linking needs a sign-in of late
	ExternalInvalid   = "external_invalid"   // what the connector says of them cannot be kept
	ExternalExpired   = "external_expired"   // the provider's own session is over
	InternalError     = "internal"
)

const signInFailed = "the sign-in did not work"

// refuseArrival refuses somebody nobody knows who.
func refuseArrival(reason string, c ConnectorInfo, detail string) *Refusal {
	r := Refuse(reason, Principal{Connector: c.Name}, signInFailed)
	r.Detail = detail
	return r
}

// recorded marks an error that is on record.
type recorded struct{ error }

func (r *recorded) Unwrap() error { return r.error }

// Refused records, once, that a connector or a step after it has refused somebody,
// in the log of the connector's organization or of the site, and returns the error
// to show. errs.Unavailable is returned as it is, and noted for the connector's
// [Health]. What has been recorded already, by [Directory.Arrive] for example, is
// returned as it is. An error that is neither becomes a *[Refusal] with the reason
// "internal": the record has none of its text, the log gets all of it.
func (d *Directory) Refused(ctx context.Context, c ConnectorInfo, err error) error {
	var done *recorded
	if errors.As(err, &done) {
		return err
	}
	var r *Refusal
	if !errors.As(err, &r) {
		if errs.KindOf(err) == errs.Unavailable {
			d.health.failed(c.Name, d.wallClock(), errs.Public(err))
			return err
		}
		r = &Refusal{Reason: InternalError, public: errs.Wrap(errs.Unauthenticated, err, signInFailed)}
		err = r
	}
	claimed := r.Claimed
	claimed.Connector = c.Name
	e := claimed.Event(audit.Event{
		Name: "user-login-failed", Object: "user", Description: "Refused a sign-in", Decision: audit.Deny, Rule: r.Reason,
		Details: facts("detail", clean(r.Detail, maxDetail), "connector", c.Name),
	})
	if claimed.Login != "" {
		e.Object, e.Description = "user:"+claimed.Login, "Refused a sign-in as "+claimed.Login
	}
	log := audit.Site
	if c.OrganizationID != "" {
		log = c.OrganizationID
	}
	if _, failed := d.audit.AppendDone(ctx, log, e, audit.Outcome{Result: audit.Failed}); failed != nil {
		return failed
	}
	return &recorded{err}
}

// maxDetail bounds the words for an administrator, in characters.
const maxDetail = 500

// Health is how a connector has fared since the start of this process.
type Health struct {
	Arrived time.Time // when somebody signed in with it last
	Failed  time.Time // when its provider could not be asked last
	Failure string    // why, fit to be shown
}

// Health returns how a connector has fared.
func (d *Directory) Health(connector string) Health { return d.health.of(connector) }

// health remembers how connectors fare.
type health struct {
	mu sync.Mutex
	at map[string]Health
}

// maxHealth bounds the connectors that are remembered.
const maxHealth = 10_000

func (h *health) of(connector string) Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[connector]
}

func (h *health) arrived(connector string, now time.Time) {
	h.change(connector, func(v *Health) { v.Arrived = now })
}

func (h *health) failed(connector string, now time.Time, why string) {
	h.change(connector, func(v *Health) { v.Failed, v.Failure = now, clean(why, maxDetail) })
}

func (h *health) change(connector string, change func(*Health)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, known := h.at[connector]
	if !known && len(h.at) >= maxHealth {
		return
	}
	if h.at == nil {
		h.at = make(map[string]Health)
	}
	change(&v)
	h.at[connector] = v
}

// wallClock is the time of what is shown and not judged, for when the database may
// not answer.
func (d *Directory) wallClock() time.Time {
	if d.store.now != nil {
		return d.store.now()
	}
	return time.Now().UTC()
}
