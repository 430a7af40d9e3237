/*
 * What the files of the API share among themselves.
 */
#pragma once

/* Number of the caller's node; 0 or -errno with the thread's text set. */
int api_currnode(int *ret_node);
