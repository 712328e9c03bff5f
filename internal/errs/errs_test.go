package errs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ipuka/ipuka/internal/errs"
)

func TestKindHoldsThroughWrapping(t *testing.T) {
	err := fmt.Errorf("reading stack: %w", errs.Errorf(errs.NotFound, "stack %q not found", "acme/web/dev"))
	if !errors.Is(err, errs.NotFound) || errors.Is(err, errs.Conflict) {
		t.Errorf("errors.Is answers wrongly for %v", err)
	}
	if got := errs.KindOf(err); got != errs.NotFound {
		t.Errorf("KindOf = %v", got)
	}
	if got := errs.Public(err); got != `stack "acme/web/dev" not found` {
		t.Errorf("Public = %q", got)
	}
}

func TestPrivateCauseStaysPrivate(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.7:5432: refused")
	err := errs.Wrap(errs.Unavailable, cause, "the database does not answer, try again")
	if got := errs.Public(err); got != "the database does not answer, try again" {
		t.Errorf("Public = %q", got)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if got := err.Error(); got != "the database does not answer, try again: dial tcp 10.0.0.7:5432: refused" {
		t.Errorf("Error = %q, which hides the cause from the log", got)
	}
}

func TestPrivateCauseStaysPrivateWhenWrapped(t *testing.T) {
	inner := errs.Wrap(errs.Unavailable, errors.New("password=hunter2"), "the database does not answer")
	err := errs.Errorf(errs.Conflict, "renaming: %w", inner)
	if got := errs.Public(err); got != "renaming: the database does not answer" {
		t.Errorf("Public = %q", got)
	}
	if !errors.Is(err, errs.Conflict) || !errors.Is(err, errs.Unavailable) {
		t.Errorf("the kinds of %v are lost", err)
	}
	if got := err.Error(); got != "renaming: the database does not answer: password=hunter2" {
		t.Errorf("Error = %q", got)
	}
}

func TestErrorWithoutKindIsInternal(t *testing.T) {
	err := errors.New("secret detail")
	if errs.KindOf(err) != errs.Internal || errs.Public(err) != "" {
		t.Errorf("KindOf = %v, Public = %q", errs.KindOf(err), errs.Public(err))
	}
}
