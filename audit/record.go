package audit

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/text/unicode/norm"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// Limits of what a record keeps, in bytes. A longer text ends in "…"; facts beyond
// maxFacts of one map are dropped in the order of their names.
const (
	maxText        = 256  // names, IDs, addresses, objects, the names of facts
	maxDescription = 1024 // the description and the values of facts
	maxFacts       = 64
)

// leafVersion is the version of the encoding below. A change of the encoding is a
// new version, and old records keep theirs for good.
const leafVersion = 1

// timeFormat has exactly six digits of fraction, so that equal times are equal texts.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// leaf is a record as it is stored: one JSON object in the canonical form of
// RFC 8785 (names sorted, no spaces, numbers are integers), all text in Unicode
// normalization form C. Kind "event" has everything but Of, kind "outcome" has
// Outcome, Of and the request.
type leaf struct {
	Actor       *leafActor        `json:"actor,omitempty"`
	Address     string            `json:"address,omitempty"`
	After       map[string]string `json:"after,omitempty"`
	Before      map[string]string `json:"before,omitempty"`
	Connector   string            `json:"connector,omitempty"`
	Decision    Decision          `json:"decision,omitempty"`
	Description string            `json:"description,omitempty"`
	Details     map[string]string `json:"details,omitempty"`
	Event       string            `json:"event,omitempty"`
	Index       int64             `json:"index"`
	Kind        string            `json:"kind"`
	Log         string            `json:"log"`
	Object      string            `json:"object,omitempty"`
	Of          *int64            `json:"of,omitzero"`
	Outcome     *leafOutcome      `json:"outcome,omitzero"`
	Request     string            `json:"request,omitempty"`
	Rule        string            `json:"rule,omitempty"`
	Session     string            `json:"session,omitempty"`
	Time        string            `json:"time"`
	Token       *leafToken        `json:"token,omitzero"`
	UserAgent   string            `json:"userAgent,omitempty"`
	Version     int               `json:"version"`
}

type leafActor struct {
	ID    string `json:"id,omitempty"`
	Kind  string `json:"kind"`
	Login string `json:"login,omitempty"`
	Name  string `json:"name,omitempty"`
}

type leafToken struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

type leafOutcome struct {
	Details map[string]string `json:"details,omitempty"`
	Result  Result            `json:"result"`
	Status  int               `json:"status,omitzero"`
}

// The kinds of leaf.
const (
	kindEvent   = "event"
	kindOutcome = "outcome"
)

// newEvent returns the leaf of e without its place and time. An event that is not
// in the catalogue, or a decision or result that does not exist, is a mistake in the
// calling program.
func newEvent(e Event, o *Outcome, q httpapi.Request) (*leaf, error) {
	if _, ok := Describe(e.Name); !ok {
		return nil, fmt.Errorf("audit event %q is not in the catalogue", e.Name)
	}
	if e.Decision != "" && e.Decision != Allow && e.Decision != Deny {
		return nil, fmt.Errorf("audit event %s: %q is not a decision", e.Name, e.Decision)
	}
	f := &leaf{
		Kind: kindEvent, Version: leafVersion, Event: e.Name,
		Actor: &leafActor{
			ID: clean(e.Actor.ID), Kind: clean(e.Actor.Kind), Login: clean(e.Actor.Login), Name: clean(e.Actor.Name),
		},
		Session: clean(e.SessionID), Connector: clean(e.Connector),
		Object: clean(e.Object), Description: cleanTo(e.Description, maxDescription),
		Decision: e.Decision, Rule: clean(e.Rule),
		Details: facts(e.Details), Before: facts(e.Before), After: facts(e.After),
		Request: clean(q.ID), Address: clean(q.Address), UserAgent: clean(q.UserAgent),
	}
	if f.Actor.Kind == "" {
		f.Actor.Kind = Anonymous
	}
	if id, name := clean(e.TokenID), clean(e.TokenName); id != "" || name != "" {
		f.Token = &leafToken{ID: id, Name: name}
	}
	if o != nil {
		var err error
		if f.Outcome, err = newLeafOutcome(*o); err != nil {
			return nil, fmt.Errorf("audit event %s: %w", e.Name, err)
		}
	}
	return f, nil
}

// newOutcome returns the leaf of the outcome of the event at index of, without its
// place and time.
func newOutcome(of int64, o Outcome, q httpapi.Request) (*leaf, error) {
	outcome, err := newLeafOutcome(o)
	if err != nil {
		return nil, fmt.Errorf("audit outcome: %w", err)
	}
	return &leaf{Kind: kindOutcome, Version: leafVersion, Of: &of, Outcome: outcome, Request: clean(q.ID)}, nil
}

func newLeafOutcome(o Outcome) (*leafOutcome, error) {
	if o.Result != Succeeded && o.Result != Failed && o.Result != Unknown {
		return nil, fmt.Errorf("%q is not a result", o.Result)
	}
	return &leafOutcome{Result: o.Result, Status: o.Status, Details: facts(o.Details)}, nil
}

// encode returns the bytes of f at its place, which are its Merkle leaf.
func (f *leaf) encode(ref Ref, at time.Time) ([]byte, error) {
	f.Log, f.Index, f.Time = ref.Log, ref.Index, at.UTC().Format(timeFormat)
	data, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(data)
	if err := value.Canonicalize(); err != nil { // sorts the facts
		return nil, err
	}
	return value, nil
}

// decode is the inverse of encode, for the entry that an event and, when there is
// one, the record of its outcome make.
func decode(event, outcome []byte) (Entry, error) {
	var f leaf
	if err := json.Unmarshal(event, &f); err != nil {
		return Entry{}, fmt.Errorf("reading an audit record: %w", err)
	}
	at, err := time.Parse(timeFormat, f.Time)
	if err != nil || f.Kind != kindEvent || f.Actor == nil || f.Version != leafVersion {
		return Entry{}, fmt.Errorf("audit record %s %d is not an event of version %d", f.Log, f.Index, leafVersion)
	}
	entry := Entry{
		Ref: Ref{Log: f.Log, Index: f.Index}, Time: at,
		Event: Event{
			Name: f.Event, Actor: Actor{Kind: f.Actor.Kind, ID: f.Actor.ID, Login: f.Actor.Login, Name: f.Actor.Name},
			SessionID: f.Session, Connector: f.Connector, Object: f.Object, Description: f.Description,
			Decision: f.Decision, Rule: f.Rule, Details: f.Details, Before: f.Before, After: f.After,
		},
		Outcome: Outcome{Result: Unknown}, RequestID: f.Request, Address: f.Address, UserAgent: f.UserAgent,
	}
	if f.Token != nil {
		entry.Event.TokenID, entry.Event.TokenName = f.Token.ID, f.Token.Name
	}
	if outcome != nil {
		var of leaf
		if err := json.Unmarshal(outcome, &of); err != nil {
			return Entry{}, fmt.Errorf("reading the outcome of audit record %s %d: %w", f.Log, f.Index, err)
		}
		f.Outcome = of.Outcome
	}
	if f.Outcome != nil {
		entry.Outcome = Outcome{Result: f.Outcome.Result, Status: f.Outcome.Status, Details: f.Outcome.Details}
	}
	return entry, nil
}

func clean(text string) string { return cleanTo(text, maxText) }

// cleanTo returns text as a record keeps it: without control and formatting
// characters, which could forge lines or drive a terminal, in normalization form C,
// at most limit bytes long.
func cleanTo(text string, limit int) string {
	text = httpapi.Clean(text, len(text))
	return httpapi.Clean(norm.NFC.String(text), limit)
}

// facts returns m with clean names and values. Of names that are equal once cleaned
// the first in order stays.
func facts(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	kept := make(map[string]string, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		key := clean(name)
		if _, ok := kept[key]; !ok && key != "" && len(kept) < maxFacts {
			kept[key] = cleanTo(m[name], maxDescription)
		}
	}
	return kept
}
