// Package httpapi is the HTTP plumbing that every part of Ipuka shares: handlers
// that return errors, JSON in and out, bounded request bodies, request IDs and the
// access log.
//
// An error is turned into a status and a body once, here. Its public text goes to
// the client, its whole text to the log, and a fault of our own (an error without
// a kind, see internal/errs) shows the client nothing but the request ID.
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/ipuka/ipuka/internal/errs"
)

// Handler answers a request or returns an error; after an error it must not have
// written anything.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Adapt makes an http.Handler of h that answers errors in the form of the Pulumi
// API (see [WriteError]) and logs those that are not the client's fault.
func Adapt(log *slog.Logger, h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			LogError(log, r, err)
			WriteError(w, r, err)
		}
	})
}

// ErrorBody is the error body of the Pulumi API. The CLI acts on Code and not on
// the HTTP status, so the two are always equal.
type ErrorBody struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Errors says it to programs.
	Errors []Problem `json:"errors,omitempty"`
}

// Problem is a part of an error that a client acts on.
type Problem struct {
	Resource  string `json:"resource"`
	Attribute string `json:"attribute,omitempty"`
	ErrorType string `json:"errorType"`
}

// Problems returns an error like err whose answer has the problems in it.
func Problems(err error, problems ...Problem) error { return &problematic{err, problems} }

type problematic struct {
	error
	problems []Problem
}

func (p *problematic) Unwrap() error { return p.error }

// WriteError answers err in the form of the Pulumi API.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status := Status(err)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	body := ErrorBody{Code: status, Message: Message(r, err)}
	if p := (*problematic)(nil); errors.As(err, &p) {
		body.Errors = p.problems
	}
	WriteJSON(w, status, body)
}

// Message returns the text of err for the caller of r: its public text, or the
// request ID by which an administrator finds the cause in the log.
func Message(r *http.Request, err error) string {
	if text := errs.Public(err); text != "" {
		return text
	}
	return "internal error, the log has the cause under request ID " + RequestID(r.Context())
}

// Status returns the HTTP status for err.
func Status(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.NotAllowed:
		return http.StatusMethodNotAllowed
	case errs.Conflict:
		return http.StatusConflict
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.Unsupported:
		return http.StatusUnsupportedMediaType
	case errs.Unprocessable:
		return http.StatusUnprocessableEntity
	case errs.Exhausted:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// KindOf returns the error kind for an HTTP status: the inverse of [Status].
func KindOf(status int) errs.Kind {
	switch status {
	case http.StatusUnauthorized:
		return errs.Unauthenticated
	case http.StatusForbidden:
		return errs.Forbidden
	case http.StatusNotFound:
		return errs.NotFound
	case http.StatusMethodNotAllowed:
		return errs.NotAllowed
	case http.StatusConflict:
		return errs.Conflict
	case http.StatusRequestEntityTooLarge:
		return errs.TooLarge
	case http.StatusUnsupportedMediaType:
		return errs.Unsupported
	case http.StatusUnprocessableEntity:
		return errs.Unprocessable
	case http.StatusTooManyRequests:
		return errs.Exhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return errs.Unavailable
	}
	if status >= 500 {
		return errs.Internal
	}
	return errs.Invalid
}

// LogError logs err under the request's ID when it is not the client's fault, nor
// the consequence of the client's going away.
func LogError(log *slog.Logger, r *http.Request, err error) {
	if Status(err) >= http.StatusInternalServerError && !errors.Is(r.Context().Err(), context.Canceled) {
		log.ErrorContext(r.Context(), "request failed",
			"request", RequestID(r.Context()), "method", r.Method, "error", err)
	}
}

// WriteJSON answers with v as JSON. Nil slices and maps are written as [] and {},
// which the CLI needs. A failure to write is the client's going away and is dropped.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := Marshal(v)
	if err != nil { // only a type that cannot be marshalled gets here
		status, body = http.StatusInternalServerError, []byte(`{"code":500,"message":"internal error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Marshal encodes v with sorted map keys and without HTML escaping.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, json.Deterministic(true)) }

// AsError returns err when it has a kind already, and otherwise an error of kind
// whose private cause is err.
func AsError(kind errs.Kind, err error, public string) error {
	var e *errs.Error
	if errors.As(err, &e) {
		return err
	}
	return errs.Wrap(kind, err, public)
}
