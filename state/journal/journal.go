// Package journal replays the journals that Pulumi engines write while an update runs.
//
// An engine that speaks the journal protocol does not upload its state. It uploads
// what it did: an entry when a step begins, an entry when it ends, and a few entries
// that concern the state as a whole. [Replay] applies the entries of one update to
// the deployment that the update started from (the base) and returns the deployment
// that the engine would have written. [Parse] decodes and validates one entry,
// [Check] finds the holes in a journal.
//
// The package is pure: no database, no clock, no logging. All its functions are safe
// for concurrent use and leave their arguments alone.
//
// # What is promised
//
// Bytes that replay has no reason to change are kept: the inputs, outputs and unknown
// fields of a resource come out as they came in, number spelling, escapes, white
// space and key order included.
//
// Entries may be given in any order, and exact duplicates are ignored. Any prefix of
// a journal can be replayed: every success in it is in the result, and every step
// that had begun and not ended becomes a pending operation.
//
// # Journals with holes
//
// An engine does not wait for the answer to entries it holds unimportant (a resource
// that stayed the same), so a journal can lack entries in the middle, and the state of
// a real resource can stand behind the hole. [Replay] refuses such a journal unless it
// is told to salvage it, by the rule that is stated there.
package journal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
)

// Kind says what an entry records.
type Kind int

// The kinds of version 1 of the journal format.
const (
	Begin           Kind = 0 // a step begins
	Success         Kind = 1 // a step is done
	Failure         Kind = 2 // a step failed
	RefreshSuccess  Kind = 3 // a resource was read again, in place
	Outputs         Kind = 4 // a component registered its outputs
	Write           Kind = 5 // the client rewrote the base
	SecretsProvider Kind = 6 // the secrets provider of the update
	Rebuilt         Kind = 7 // the client made the state so far its new base
	Parameterize    Kind = 8 // a provider extension was parameterized
	Snippets        Kind = 9 // the snippets of the stack were replaced
)

// Entry is one decoded and validated journal entry. Its zero value is not an entry;
// [Parse] makes one.
type Entry struct {
	raw       jsontext.Value
	version   int64
	kind      Kind
	sequence  int64
	operation int64

	removeOld, removeNew   reference
	pendingOld, pendingNew reference
	deleteOld, deleteNew   reference

	state      *resource
	pending    *operation // the operation that a begin announces
	refresh    bool
	byteString bool
	provider   *secretsProvider
	snippets   []byte // nil: none
	extension  member
	snapshot   *deployment
}

// reference is an optional number: the index of a base resource where a field's name
// ends in Old, the operation ID of an earlier success where it ends in New.
type reference struct {
	n  int64
	ok bool
}

// operation is a step under way, as a deployment lists it.
type operation struct {
	raw      []byte
	typ      string
	resource *resource
}

const creating = "creating"

// formatVersion is the version of the journal format that this package speaks.
const formatVersion = 1

// Parse decodes one entry and validates all that can be validated without its
// journal. The entry keeps raw, which must not change afterwards. Every refusal is
// errs.Invalid: bad JSON or a duplicate name, an unknown version or kind, a number
// out of range, a field that the kind needs and that is absent, a resource without
// urn or type. Unknown fields are allowed.
func Parse(raw jsontext.Value) (Entry, error) {
	e := Entry{raw: raw, kind: -1}
	c := strict(raw)
	_, err := c.object("the entry", func(name []byte) error { return e.field(c, name) })
	if err == nil {
		err = c.end()
	}
	if err == nil {
		err = e.validate()
	}
	switch {
	case err == nil:
		return e, nil
	case e.sequence > 0:
		return Entry{}, errs.Errorf(errs.Invalid, "journal entry %d: %w", e.sequence, err)
	}
	return Entry{}, errs.Errorf(errs.Invalid, "journal entry: %w", err)
}

func (e *Entry) field(c *cursor, name []byte) error {
	switch string(name) {
	case "version":
		return c.number("version", &e.version)
	case "kind":
		var kind int64
		err := c.number("kind", &kind)
		e.kind = Kind(min(kind, int64(Snippets)+1)) // one too high stands for all that are
		return err
	case "sequenceID":
		return c.number("sequenceID", &e.sequence)
	case "operationID":
		return c.number("operationID", &e.operation)
	case "removeOld":
		return e.removeOld.read(c, "removeOld")
	case "removeNew":
		return e.removeNew.read(c, "removeNew")
	case "pendingReplacementOld":
		return e.pendingOld.read(c, "pendingReplacementOld")
	case "pendingReplacementNew":
		return e.pendingNew.read(c, "pendingReplacementNew")
	case "deleteOld":
		return e.deleteOld.read(c, "deleteOld")
	case "deleteNew":
		return e.deleteNew.read(c, "deleteNew")
	case "isRefresh":
		return c.flag("isRefresh", &e.refresh)
	case "requiresByteString":
		return c.flag("requiresByteString", &e.byteString)
	}
	if c.null() {
		return nil // an optional field that is null is absent
	}
	return e.payload(c, name)
}

// payload reads the fields that are objects or arrays; none of them is null.
func (e *Entry) payload(c *cursor, name []byte) (err error) {
	switch string(name) {
	case "state":
		e.state, err = readResource(c, "state")
	case "operation":
		e.pending, err = readOperation(c)
	case "secretsProvider":
		e.provider, err = readProvider(c)
	case "snippets":
		e.snippets, err = readSnippets(c)
	case "newSnapshot":
		e.snapshot, err = readDeployment(c)
	case "extensionRef":
		err = c.text("extensionRef", &e.extension.name)
	case "extension":
		e.extension.value, err = c.object("extension", func([]byte) error {
			_, err := c.value()
			return err
		})
	default:
		_, err = c.value()
	}
	return err
}

func (r *reference) read(c *cursor, what string) error {
	*r = reference{}
	if c.null() {
		return nil
	}
	r.ok = true
	return c.number(what, &r.n)
}

func readOperation(c *cursor) (*operation, error) {
	o := &operation{}
	raw, err := c.object("operation", func(name []byte) (err error) {
		switch string(name) {
		case "type":
			err = c.text("type", &o.typ)
		case "resource":
			o.resource, err = readResource(c, "the resource of operation")
		default:
			_, err = c.value()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.typ == "" || o.resource == nil {
		return nil, errors.New("operation has no type or no resource")
	}
	o.raw = raw
	return o, nil
}

// validate checks what the kind asks for.
func (e *Entry) validate() error {
	switch {
	case e.version != formatVersion:
		return fmt.Errorf("version %d is unknown, send version %d", e.version, formatVersion)
	case e.kind < Begin:
		return errors.New("kind is missing")
	case e.kind > Snippets:
		return fmt.Errorf("the kind is unknown to version %d", formatVersion)
	case e.sequence < 1:
		return errors.New("sequenceID must be at least 1")
	}
	missing := ""
	switch e.kind {
	case Outputs:
		switch {
		case e.state == nil:
			missing = "state"
		case !e.removeOld.ok && !e.removeNew.ok:
			missing = "removeOld or removeNew"
		}
	case Write:
		if e.snapshot == nil {
			missing = "newSnapshot"
		}
	case SecretsProvider:
		if e.provider == nil || e.provider.typ == "" {
			missing = "secretsProvider with a type"
		}
	case Parameterize:
		switch {
		case e.extension.name == "":
			missing = "extensionRef"
		case e.extension.value == nil:
			missing = "extension"
		}
	}
	if missing != "" {
		return fmt.Errorf("kind %d needs %s", e.kind, missing)
	}
	return nil
}

// Sequence returns the position of the entry in its journal, from 1.
func (e Entry) Sequence() int64 { return e.sequence }

// Kind returns what the entry records.
func (e Entry) Kind() Kind { return e.kind }

// Raw returns the JSON that the entry was parsed from. The caller must not change it.
func (e Entry) Raw() jsontext.Value { return e.raw }

// Equal reports whether two entries have the same content, white space aside. A
// request that is sent again carries equal entries.
func (e Entry) Equal(other Entry) bool {
	if bytes.Equal(e.raw, other.raw) {
		return true
	}
	a, b := e.raw.Clone(), other.raw.Clone()
	return a.Compact() == nil && b.Compact() == nil && bytes.Equal(a, b)
}
