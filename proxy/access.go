package proxy

import (
	"errors"
	"net/http"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// What administrators do about access. Each change is one transaction with its audit
// event, and holds from the next request on.

// role reads the role of a member from the body. Clients name it, or send the ID of
// the built-in role, which is its name here.
func (c *call) role() (identity.Role, error) {
	var body struct {
		Role      string `json:"role"`
		FGARoleID string `json:"fgaRoleId"`
	}
	if err := c.decodeBody(&body); err != nil {
		return "", err
	}
	if body.FGARoleID != "" {
		body.Role = body.FGARoleID
	}
	switch role := identity.Role(body.Role); role {
	case identity.RoleAdmin, identity.RoleMember:
		return role, nil
	}
	return "", errs.Errorf(errs.Invalid, "the role of a member is admin or member")
}

func (g *Gate) addMember(w http.ResponseWriter, c *call) error {
	role, err := c.role()
	if err != nil {
		return err
	}
	member, err := g.Directory.AddMember(c.detached(), c.principal, c.log, c.names["user"], role)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, memberInfoOf(member))
	return nil
}

func (g *Gate) updateMember(w http.ResponseWriter, c *call) error {
	role, err := c.role()
	if err != nil {
		return err
	}
	return noContent(w, g.Directory.SetRole(c.detached(), c.principal, c.log, c.names["user"], role))
}

func (g *Gate) deleteMember(w http.ResponseWriter, c *call) error {
	return noContent(w, g.Directory.RemoveMember(c.detached(), c.principal, c.log, c.names["user"]))
}

func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// collaborator is a user with a permission on a stack: 101 read, 102 write, 103 admin.
type collaborator struct {
	User       userInfo `json:"user"`
	Permission int      `json:"permission"`
}

func (g *Gate) collaborators(w http.ResponseWriter, c *call) error {
	grants, err := g.Engine.Grants(c.Context(), c.object)
	if err != nil {
		return err
	}
	users := make([]collaborator, 0, len(grants))
	for _, grant := range grants {
		user, err := g.Directory.User(c.Context(), grant.UserID)
		if errors.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		users = append(users, collaborator{userInfo{user.Name, user.Login, user.AvatarURL, user.Email}, int(grant.Level)})
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]any{"users": users})
	return nil
}

// setCollaborator gives a member of the organization a permission on the stack.
func (g *Gate) setCollaborator(w http.ResponseWriter, c *call) error {
	var body struct {
		Permission rbac.Level `json:"permission"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	return noContent(w, g.grant(c, body.Permission))
}

func (g *Gate) deleteCollaborator(w http.ResponseWriter, c *call) error {
	return noContent(w, g.grant(c, rbac.None))
}

// grant gives the user in the path a permission. A login that nobody has is answered
// as one of somebody who is in another organization: both are no member of this one.
func (g *Gate) grant(c *call, level rbac.Level) error {
	user, err := g.Directory.UserByLogin(c.Context(), c.names["user"])
	if err != nil && !errors.Is(err, errs.NotFound) {
		return err
	}
	return g.Engine.Grant(c.detached(), c.principal, c.object, user.ID, level)
}
