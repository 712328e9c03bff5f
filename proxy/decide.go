package proxy

import (
	"strconv"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/rbac"
)

// decideCreateStack reads the name of the new stack. Its creator becomes its
// administrator, so state that comes with it needs no further permission.
func decideCreateStack(c *call) error {
	var body struct {
		StackName string `json:"stackName"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	if err := checkName(body.StackName, "stack"); err != nil {
		return err
	}
	c.object.Project, c.object.Stack = c.names["project"], body.StackName
	return nil
}

// decideRename reads the new name. Moving to another project creates a stack there.
func decideRename(c *call) error {
	var body struct {
		NewName    string `json:"newName"`
		NewProject string `json:"newProject"`
	}
	if err := c.decodeBody(&body); err != nil {
		return err
	}
	to := c.object
	for _, part := range []struct {
		what, name string
		target     *string
	}{{"stack", body.NewName, &to.Stack}, {"project", body.NewProject, &to.Project}} {
		if part.name == "" {
			continue
		}
		if err := checkName(part.name, part.what); err != nil {
			return err
		}
		*part.target = part.name
	}
	c.renamed = to
	c.details["newName"] = to.Project + "/" + to.Stack
	if to.Project == c.object.Project {
		return nil
	}
	return c.need("stack:create", rbac.Object{Organization: to.Organization})
}

// decideCreateUpdate tells a preview from a change: by the kind in the path, or by
// options.dryRun in the very bytes that are forwarded. A preview reads secrets and
// changes nothing.
func decideCreateUpdate(kind string) func(c *call) error {
	return func(c *call) error {
		var body struct {
			Options struct {
				DryRun bool `json:"dryRun"`
			} `json:"options"`
		}
		if err := c.decodeBody(&body); err != nil {
			return err
		}
		preview := kind == "preview" || body.Options.DryRun
		c.details["kind"], c.details["preview"] = kind, strconv.FormatBool(preview)
		if preview {
			return c.need("stack:decrypt", c.object)
		}
		return c.need("stack:write", c.object)
	}
}

// grantable are the permissions that the state service is told of at the start of
// an update, where only it knows whether the update was created as a preview.
var grantable = []rbac.Permission{"stack:write", "stack_tags:update"}

func decideStart(c *call) error {
	for _, permission := range grantable {
		if c.snapshot.Decide(c.principal.UserID, permission, c.object).Allow {
			c.granted = append(c.granted, string(permission))
		}
	}
	return nil
}

func checkName(name, what string) error {
	ok := len(name) >= 1 && len(name) <= 100 && name != "." && name != ".."
	for i := 0; ok && i < len(name); i++ {
		ok = nameByte(name[i])
	}
	if !ok {
		return errs.Errorf(errs.Invalid, "that is not a name for a %s: %s", what, nameGrammar)
	}
	return nil
}
