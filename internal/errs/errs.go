// Package errs names the kinds of error that callers act on.
//
// A [Kind] is itself an error, so errors.Is(err, errs.NotFound) holds through any
// wrapping. An error made here has two texts: a public one, which may be shown to
// the caller of an API and tells what to do next, and an optional private cause,
// which only a log may show. An error without a kind is our own fault: it is
// answered as an internal error and its text stays in the log.
package errs

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a caller can do about an error. It is comparable and is matched
// with errors.Is.
type Kind string

// The kinds, each with the HTTP status that internal/httpapi gives it.
const (
	Invalid         Kind = "invalid"         // 400: the request itself is wrong
	Unauthenticated Kind = "unauthenticated" // 401: no valid credential
	Forbidden       Kind = "forbidden"       // 403: known, visible, not allowed
	NotFound        Kind = "not found"       // 404: absent, or not visible to the caller
	NotAllowed      Kind = "not allowed"     // 405: the method does not exist on this path
	Conflict        Kind = "conflict"        // 409: the state of the object forbids it now
	TooLarge        Kind = "too large"       // 413: over a size limit
	Unsupported     Kind = "unsupported"     // 415: a media type or encoding we do not speak
	Unprocessable   Kind = "unprocessable"   // 422: well-formed, but it cannot be applied
	Exhausted       Kind = "exhausted"       // 429: try again later, slower
	Internal        Kind = "internal"        // 500: our fault; the text is not shown
	Unavailable     Kind = "unavailable"     // 503: a dependency failed; nothing was done
)

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is an error with a kind, a public text and an optional private cause.
type Error struct {
	kind   Kind
	public string
	cause  error
}

// Errorf returns an error of the given kind. The text is public; a %w operand is
// matched by errors.Is and its text becomes public too, but for the private cause
// of an error made here.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	cause := errors.Unwrap(err)
	public := err.Error()
	var known *Error
	if errors.As(cause, &known) { // its private cause stays private
		public = strings.Replace(public, known.Error(), known.public, 1)
	}
	return &Error{kind: kind, public: public, cause: cause}
}

// Wrap returns an error of the given kind whose public text is public and whose
// private cause is cause. The cause reaches the log and errors.Is, never a client.
func Wrap(kind Kind, cause error, public string) error {
	return &Error{kind: kind, public: public, cause: &private{cause}}
}

// private marks a cause whose text must stay in the log.
type private struct{ error }

func (p *private) Unwrap() error { return p.error }

// Error returns the whole text, private cause included: it is meant for the log.
func (e *Error) Error() string {
	var p *private
	if errors.As(e.cause, &p) {
		return e.public + ": " + p.Error()
	}
	return e.public
}

// Is reports whether target is the kind of e.
func (e *Error) Is(target error) bool {
	kind, ok := target.(Kind)
	return ok && kind == e.kind
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.cause }

// KindOf returns the outermost kind in err's chain, and Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Internal
}

// Public returns the text that may be shown to a client. It is empty when err has
// no kind, or the kind Internal.
func Public(err error) string {
	var e *Error
	if errors.As(err, &e) && e.kind != Internal {
		return e.public
	}
	return ""
}
