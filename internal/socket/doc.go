// Package socket looks at connections as the system has them.
package socket
