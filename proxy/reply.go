package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
)

// sealReply puts a sealed envelope in the place of the lease token that the state
// service answers a start or a renewal with.
func (g *Gate) sealReply(c *call, a *answer) error {
	var lease struct {
		Token           string `json:"token"`
		TokenExpiration int64  `json:"tokenExpiration"`
	}
	var body map[string]jsontext.Value // members that are not looked at stay as they are
	err := errors.Join(json.Unmarshal(a.held.Bytes(), &lease), json.Unmarshal(a.held.Bytes(), &body))
	if err != nil || lease.Token == "" {
		return errs.Wrap(errs.Unavailable, errors.Join(err, errors.New("no lease token in the answer")), "the state service did not hand out a lease, try again")
	}
	expires := time.Unix(lease.TokenExpiration, 0)
	if lease.TokenExpiration == 0 {
		expires = time.Now()
	}
	sealed, err := g.sealUpdate(updateToken{
		Lease: lease.Token, Update: c.names["update"], Expires: expires.Add(envelopeGrace),
		UserID: c.principal.UserID, Login: c.principal.Login, Name: c.principal.Name,
		TokenID: c.principal.TokenID, TokenName: c.principal.TokenName,
		Organization: c.org.ID, Project: c.object.Project, Stack: c.object.Stack,
	})
	if err != nil {
		return fmt.Errorf("sealing the update token: %w", err)
	}
	if body["token"], err = json.Marshal(sealed); err != nil {
		return err
	}
	return a.replace(body)
}

// nameOrganization says the organization's present name to a client, where the state
// service knows it by the one that it was made with.
func (g *Gate) nameOrganization(c *call, a *answer) error {
	if c.org.Key == c.org.Login {
		return nil
	}
	var body map[string]jsontext.Value
	if err := json.Unmarshal(a.held.Bytes(), &body); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the state service's answer cannot be read, try again")
	}
	name, err := json.Marshal(c.org.Login)
	if err != nil {
		return err
	}
	body["orgName"] = name
	return a.replace(body)
}

// The three hooks below keep the access rules in step with the stacks. They run
// before the client learns of its success, so that its next call finds them.

func (g *Gate) stackCreated(c *call, _ *answer) error {
	return g.inStep(g.Engine.StackCreated(c.detached(), c.object, c.principal.UserID))
}

func (g *Gate) stackDeleted(c *call, _ *answer) error {
	return g.inStep(g.Engine.StackDeleted(c.detached(), c.object))
}

func (g *Gate) stackRenamed(c *call, _ *answer) error {
	return g.inStep(g.Engine.StackRenamed(c.detached(), c.object, c.renamed))
}

func (g *Gate) inStep(err error) error {
	if err == nil {
		return nil
	}
	return errs.Wrap(errs.Unavailable, err, "the stack was changed, but who may use it could not be noted: an administrator of the organization can set it right")
}
