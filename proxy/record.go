package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// refused is a refusal with what its record needs and its answer does not show.
type refused struct {
	cause      error
	reason     string // machine-readable
	permission rbac.Permission
}

func (r *refused) Error() string { return r.cause.Error() + " (" + r.reason + ")" }
func (r *refused) Unwrap() error { return r.cause }

func refusal(kind errs.Kind, reason, text string) error {
	return &refused{cause: errs.Errorf(kind, "%s", text), reason: reason}
}

// refuse records why a call is refused and returns what to answer. What cannot be
// recorded is answered as a failure of the log, so that probing the gate never goes
// unseen. Errors that decide nothing about the caller (a malformed body, a database
// that is down) are not refusals and pass through.
func (g *Gate) refuse(c *call, err error) error {
	var r *refused
	if !errors.As(err, &r) {
		var credential *identity.Refusal
		if !errors.As(err, &credential) {
			return err
		}
		r = &refused{reason: credential.Reason}
		c.principal = credential.Claimed
	}
	event := c.event(refusalName(c, err))
	event.Decision, event.Rule = audit.Deny, r.reason
	event.Description = "Refused a call"
	if event.Object != "" {
		event.Description += " on " + event.Object
	}
	event.Details["operation"] = c.route.Name
	if r.permission != "" {
		event.Details["permission"] = string(r.permission)
	}
	_, recordErr := g.Audit.AppendDone(c.detached(), c.log, event, audit.Outcome{Result: audit.Failed, Status: httpapi.Status(err)})
	if recordErr != nil {
		return fmt.Errorf("recording a refusal: %w", recordErr)
	}
	return err
}

// refusalName is the catalogue's name for a refusal.
func refusalName(c *call, err error) string {
	var credential *identity.Refusal
	switch {
	case errors.As(err, &credential):
		return "personal-token-refused"
	case errors.Is(err, errs.Unauthenticated):
		return "authentication-failed"
	case c.route.Permission == lease:
		return "update-token-refused"
	case c.object.Stack != "":
		return "auth-failure-stack-permission"
	default:
		return "auth-failure-organization-role"
	}
}

// event is the beginning of every record of this call.
func (c *call) event(name string) audit.Event {
	event := audit.Event{Name: name, Details: maps.Clone(c.details)}
	if c.object.Organization != "" {
		event.Object = objectName(c.object)
	}
	if update := c.names["update"]; update != "" {
		event.Details["update"] = update
	}
	if version := c.names["version"]; version != "" {
		event.Details["version"] = version
	}
	return c.principal.Event(event)
}

// record writes the call's event, durable before anything is forwarded.
func (g *Gate) record(c *call) error {
	if c.route.Event == "" {
		return nil
	}
	event := c.event(c.route.Event)
	event.Decision, event.Rule = audit.Allow, c.rule
	event.Description = c.route.Says + " " + c.object.Project + "/" + c.object.Stack
	if c.console && event.Name == "stack-exported" { // a page shows it, secrets masked; nothing is taken away
		event.Name, event.Description = "stack-outputs-read", "Looked at the outputs and resources of stack "+c.object.Project+"/"+c.object.Stack
	}
	ref, err := g.Audit.Append(c.detached(), c.log, event)
	if err != nil {
		return fmt.Errorf("recording %s: %w", c.route.Event, err)
	}
	c.ref = ref
	return nil
}

// complete records how the call ended. The event itself is durable; if its outcome
// cannot be written it shows as unknown, which is the truth, and the log says why.
func (g *Gate) complete(c *call, status int, err error) {
	if c.route.Event == "" {
		return
	}
	outcome := audit.Outcome{Result: audit.Succeeded, Status: status}
	if err != nil {
		outcome.Status = httpapi.Status(err)
	}
	if outcome.Status >= http.StatusBadRequest {
		outcome.Result = audit.Failed
	}
	if err := g.Audit.Complete(c.detached(), c.ref, outcome); err != nil {
		httpapi.LogError(g.Log, c.Request, fmt.Errorf("recording the outcome of %s: %w", c.route.Event, err))
	}
}
