// Package policies holds the access policy that Ipuka has without any configuration:
// the casbin model, the permissions of each role, and the names of all permissions.
// It is data; package rbac reads and checks it.
package policies

import _ "embed"

//go:embed model.conf
var model string

//go:embed roles.csv
var roles string

//go:embed permissions.txt
var permissions string

// Model returns the casbin model, the text of model.conf.
func Model() string { return model }

// Roles returns the permissions of each role as casbin policy lines, the text of
// roles.csv: "p, role:NAME, PERMISSION".
func Roles() string { return roles }

// Permissions returns the names of all permissions, the text of permissions.txt: one
// a line, "#" starts a comment.
func Permissions() string { return permissions }
