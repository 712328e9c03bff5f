package identity

import (
	"context"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// Principal is an authenticated caller: the user, and the credential that stood for
// the user. It is a picture of the moment of authentication. The zero value is
// nobody; as the actor of a change it stands for Ipuka itself, such as a command on
// the server.
type Principal struct {
	UserID, Login, Name, Email, AvatarURL string

	SiteAdmin bool

	TokenID, TokenName string // the access token, when it was one; public, as SessionID is
	SessionID          string // the console's session, when it was one
	Connector          string // how the user signed in to that session

	SignedIn  time.Time // when that session began
	ManagedBy string    // ID of the organization whose identity provider owns the account; "" for none
}

// Event returns e with the actor and the credential behind it filled in.
func (p Principal) Event(e audit.Event) audit.Event {
	if p.UserID == "" {
		e.Actor = audit.Actor{Kind: audit.Anonymous}
	} else {
		e.Actor = audit.Actor{Kind: audit.User, ID: p.UserID, Login: p.Login, Name: p.Name}
	}
	e.TokenID, e.TokenName, e.SessionID, e.Connector = p.TokenID, p.TokenName, p.SessionID, p.Connector
	return e
}

// Did is [Principal.Event] for a change that p has made: the zero Principal is Ipuka
// itself and not somebody unknown.
func (p Principal) Did(e audit.Event) audit.Event {
	e = p.Event(e)
	if p.UserID == "" {
		e.Actor = audit.Actor{Kind: audit.System}
	}
	return e
}

type principalKey struct{}

// NewContext returns a context that carries p. Only what has authenticated p may
// put it there.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the caller that ctx carries.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// The reasons of a [Refusal], as they stand in the audit record.
const (
	TokenMalformed   = "token_malformed" // not of the form of a token; the database was not asked
	TokenUnknown     = "token_unknown"
	TokenRevoked     = "token_revoked"
	TokenExpired     = "token_expired"
	SessionMalformed = "session_malformed"
	SessionUnknown   = "session_unknown"
	SessionEnded     = "session_ended"
	SessionExpired   = "session_expired"
	UserDisabled     = "user_disabled"
)

// Refusal is an error of kind errs.Unauthenticated that says, for the audit record
// only, why a credential was refused and whose it is. What the client is told is the
// same for every reason, so that it learns nothing about a credential it found.
type Refusal struct {
	Reason  string    // a machine-readable code
	Claimed Principal // whose credential it is, as far as known; this caller is NOT authenticated
	// Detail says what was wrong, in words for an administrator who sets a connector
	// up. It has no secret in it, and nothing that is not on an allow-list of its author.
	Detail string
	public error
}

// Refuse returns a Refusal that tells the client no more than public.
func Refuse(reason string, claimed Principal, public string) *Refusal {
	return &Refusal{Reason: reason, Claimed: claimed, public: errs.Errorf(errs.Unauthenticated, "%s", public)}
}

// Error returns the text for the log.
func (r *Refusal) Error() string { return r.public.Error() + " (" + r.Reason + ")" }

// Unwrap returns the public part, which has the kind.
func (r *Refusal) Unwrap() error { return r.public }
