package audit

import "time"

// Site is the log of what belongs to no organization. The log of an organization is
// named by the organization's ID.
const Site = "site"

// The kinds of actor.
const (
	User      = "user"      // a person
	Anonymous = "anonymous" // nobody known: a failed sign-in, a refused token
	System    = "system"    // Ipuka itself: an expired lease, a command on the server
)

// Actor is who did it. An empty Kind is recorded as Anonymous.
type Actor struct {
	Kind  string
	ID    string // the immutable ID
	Login string // as it was at the time
	Name  string // as it was at the time
}

// Decision is what was decided about the request before it was carried out.
type Decision string

// The decisions. An event that nothing had to be decided for has none.
const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
)

// Event is what somebody did, or was refused. It is plain data and outlives the
// types that made it. Texts are cleaned of control characters and cut before they
// are recorded, so they may come from a client; secrets must not be
// in them, whatever they come from.
type Event struct {
	Name  string // the ID in the catalogue: "stack-update-started"
	Actor Actor

	// What stood behind the actor. Public IDs only, never a credential or its hash.
	TokenID, TokenName, SessionID, Connector string

	Object      string // "acme/web/prod", "acme", "user:alice", "token:ID"
	Description string // one sentence, past tense
	Decision    Decision
	Rule        string // the rule that decided, or the reason code of a refusal ("token_expired")

	// Facts from an allow-list that the maker of the event keeps. Before and After
	// have what a change found and left.
	Details, Before, After map[string]string
}

// Result is how it ended.
type Result string

// The results. An event without an outcome on record is Unknown: it had begun when
// the process or its upstream stopped.
const (
	Succeeded Result = "succeeded"
	Failed    Result = "failed"
	Unknown   Result = "unknown"
)

// Outcome is how an event ended.
type Outcome struct {
	Result  Result
	Status  int // the HTTP status that was answered, 0 when there was none
	Details map[string]string
}

// Ref is the place of a record: a log, and the index in it, counted from 0.
type Ref struct {
	Log   string
	Index int64
}

// Entry is an event on record, with its outcome.
type Entry struct {
	Ref
	Time      time.Time // of the event, by the database's clock; never decreases within a log
	Event     Event
	Outcome   Outcome // Unknown until there is one
	RequestID string
	Address   string
	UserAgent string
}

// Query selects entries of one log. The zero value selects all of them. Filters are
// combined with "and".
type Query struct {
	Event  string    // an event's name: "stack-created", "Stack Created" or "stack.create", in any case
	User   string    // the actor's login, in any case
	Object string    // exactly
	Result Result    // Unknown selects events without an outcome
	From   time.Time // at or after, unless zero
	To     time.Time // before, unless zero
	Cursor string    // where to go on: Page.Next of the same log and the same filters
	Limit  int       // entries a page: 0 is 100, more than 1000 is 1000
}

// Page is a part of a list.
type Page struct {
	Entries []Entry
	Next    string // the cursor of the following page, "" on the last one
}
